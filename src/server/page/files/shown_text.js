// Text of other people as it is shown: as text, with nothing in it that is invisible or that changes the order of
// letters. The rules are those of the terminal (docs/terminal.md). Links are made of http and https addresses only.

/** Controls, separators, bidirectional and other invisible format characters, language tags. */
const UNPRINTABLE =
  /[\p{Cc}\u{61c}\u{200b}-\u{200f}\u{2028}-\u{202e}\u{2060}-\u{2069}\u{feff}\u{fff9}-\u{fffb}\u{e0000}-\u{e007f}]/u;
const LONE_SURROGATE = /\p{Cs}/u;
/** Characters next to which a joiner can have a meaning: letters, marks and symbols outside of ASCII. */
const isJoinable = (c) => c !== undefined && c > "\u{7f}" && !/\s/u.test(c) && !UNPRINTABLE.test(c);
const isJoiner = (c) => c === "\u{200c}" || c === "\u{200d}";

/** An address, up to a character that ends one. */
const ADDRESS = /\bhttps?:\/\/[^\s<>"'`{}|\\^]+/giu;
/** Signs at the end of a sentence, which belong to no address. */
const AFTER_ADDRESS = /[.,;:!?)\]*_~…»”’]+$/u;

/** A name, a reason or another short text, as one line: escapes such as `\u{1b}` replace what can't be seen. */
export function oneLine(text) {
  return Array.from(String(text), (c) => (UNPRINTABLE.test(c) || LONE_SURROGATE.test(c) ? escaped(c) : c)).join("");
}

/**
 * Puts the text of a message into an element.
 * @param {HTMLElement} element
 * @param {string} text
 */
export function showText(element, text) {
  const lines = text.replace(/[\r\n]+$/, "");
  let end = 0;
  for (const { 0: found, index } of lines.matchAll(ADDRESS)) {
    const address = found.replace(AFTER_ADDRESS, "");
    const link = linkTo(address);
    if (!link) continue;
    showPlain(element, lines.slice(end, index));
    element.append(link);
    end = index + address.length;
  }
  showPlain(element, lines.slice(end));
}

/** A link to an address that is what it seems: http or https, with a host, and without a user name before it. */
function linkTo(address) {
  const url = URL.canParse(address) ? new URL(address) : null;
  const isSafe = url && /^https?:$/.test(url.protocol) && url.host && !url.username && !url.password;
  if (!isSafe || oneLine(address) !== address) return null;
  const link = document.createElement("a");
  Object.assign(link, { href: url.href, rel: "noopener noreferrer", target: "_blank", textContent: address });
  // Another host can look the same in other letters.
  if (url.href !== address) link.title = url.href;
  return link;
}

/** Appends text, with escapes marked as such. */
function showPlain(element, text) {
  let plain = "";
  let marked = "";
  const flush = () => {
    if (plain) element.append(plain);
    if (marked) {
      const mark = document.createElement("span");
      mark.className = "escape";
      mark.textContent = marked;
      element.append(mark);
    }
    [plain, marked] = ["", ""];
  };
  const signs = Array.from(text.replace(/\r\n/g, "\n"));
  signs.forEach((c, at) => {
    const isSpace = c === "\n" || c === "\t";
    const isHidden = !isSpace && (UNPRINTABLE.test(c) || LONE_SURROGATE.test(c));
    const joins = isJoiner(c) && isJoinable(signs[at - 1]) && isJoinable(signs[at + 1]);
    if (isHidden && !joins) {
      if (plain) flush();
      marked += escaped(c);
    } else {
      if (marked) flush();
      plain += c;
    }
  });
  flush();
}

const escaped = (c) => `\\u{${c.codePointAt(0).toString(16)}}`;

/** The beginning of a text, for a notification. */
export function excerpt(text, length) {
  const signs = Array.from(oneLine(text.trim().replace(/\s+/g, " ")));
  return signs.length <= length ? signs.join("") : `${signs.slice(0, length - 1).join("")}…`;
}
