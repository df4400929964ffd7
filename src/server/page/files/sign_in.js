// The form by which a person signs in: with a name, or with an access token, which an invitation fills in.

import { hasCrypto } from "./fernet.js";
import { isAccessToken } from "./protocol.js";
import { words } from "./words.js";

export class SignIn {
  #section;
  #form;
  #problem;

  /** @param {(account: import("./storage.js").Account) => void} onAccount */
  constructor(section, onAccount) {
    this.#section = section;
    this.#form = section.querySelector("form");
    this.#problem = section.querySelector("[role=alert]");
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      const account = this.#read();
      if (account) onAccount(account);
    });
    this.#form.querySelector("[data-other]").addEventListener("click", () => {
      this.#choose(this.#form.dataset.access === "token" ? "open" : "token");
      this.#firstField().focus();
    });
  }

  /** Whether nobody has begun to write. */
  get isEmpty() {
    const { name, token } = this.#form.elements;
    return this.#section.hidden || (!name.value && !token.value);
  }

  /**
   * @param {{ access?: string, token?: string, name?: string, problem?: string }} known
   */
  show({ access = "", token, name, problem = "" }) {
    this.#section.hidden = false;
    const { name: nameField, token: tokenField } = this.#form.elements;
    if (name) nameField.value = name;
    if (token !== undefined) tokenField.value = token;
    this.#choose(token || access === "token" ? "token" : "open");
    this.#form.dataset.invited = String(Boolean(token));
    this.#section.querySelector("[data-insecure]").hidden = hasCrypto();
    this.#form.querySelector("[type=submit]").disabled = !hasCrypto();
    this.tell(problem);
    if (token && isAccessToken(token)) this.#form.querySelector("[type=submit]").focus();
    else this.#firstField().focus();
  }

  hide() {
    this.#section.hidden = true;
    this.#form.elements.token.value = "";
    this.tell("");
  }

  /** Tells which kind of access the server has, unless somebody has begun to write. */
  setAccess(access) {
    if (access && this.isEmpty) this.#choose(access);
  }

  tell(problem) {
    this.#problem.textContent = problem;
  }

  #firstField() {
    return this.#form.elements[this.#form.dataset.access === "token" ? "token" : "name"];
  }

  /** Shows the field for a name or the one for an access token. */
  #choose(access) {
    const isToken = access === "token";
    this.#form.dataset.access = isToken ? "token" : "open";
    const { name, token } = this.#form.elements;
    for (const [field, isShown] of [[name, !isToken], [token, isToken]]) {
      field.closest("p").hidden = !isShown;
      field.disabled = !isShown;
    }
    this.#form.querySelector("[data-other]").textContent = isToken ? words.useName : words.useToken;
  }

  #read() {
    const { name, token, keep } = this.#form.elements;
    const isToken = this.#form.dataset.access === "token";
    // A whole invitation may be pasted, too.
    const pasted = /sct_[\w-]*/.exec(token.value)?.[0] ?? token.value.trim();
    if (isToken && !isAccessToken(pasted)) {
      this.tell(words.badToken);
      token.focus();
      return null;
    }
    return { name: isToken ? "" : name.value.trim(), token: isToken ? pasted : null, keep: keep.checked };
  }
}
