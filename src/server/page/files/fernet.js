// Fernet tokens (github.com/fernet/spec) with the Web Crypto API: AES-128-CBC and HMAC-SHA256.
//
// A token is checked as a whole before anything in it is used: its alphabet, version, length and HMAC, which the
// browser compares in constant time. Keys are imported so that no script can read them back.

const VERSION = 0x80;
/** Version, time and initialisation vector. */
const HEAD_BYTES = 1 + 8 + 16;
const BLOCK_BYTES = 16;
const MAC_BYTES = 32;
/** Keys of a room that are kept. Only messages that are on their way can still be under an earlier one. */
const KEPT_KEYS = 8;

/** Whether the browser offers cryptography. It does so only on https and on this computer's own address. */
export const hasCrypto = () => globalThis.crypto?.subtle !== undefined;

export class Fernet {
  #mac;
  #aes;

  /**
   * @param {string} text the `key` of an `encryption_key` frame: base64 of the 44 characters of a Fernet key
   * @returns {Promise<Fernet>}
   */
  static async of(text) {
    const bytes = decode(atob(text));
    if (bytes.length !== 32) throw new Error("not a Fernet key");
    const { subtle } = crypto;
    const hmac = { name: "HMAC", hash: "SHA-256" };
    const fernet = new Fernet();
    [fernet.#mac, fernet.#aes] = await Promise.all([
      subtle.importKey("raw", bytes.subarray(0, 16), hmac, false, ["sign", "verify"]),
      subtle.importKey("raw", bytes.subarray(16), "AES-CBC", false, ["encrypt", "decrypt"]),
    ]);
    bytes.fill(0);
    return fernet;
  }

  /**
   * @param {string} text
   * @param {number} now milliseconds since 1970
   * @returns {Promise<string>} a token
   */
  async encrypt(text, now) {
    const iv = crypto.getRandomValues(new Uint8Array(16));
    const plain = new TextEncoder().encode(text);
    const body = new Uint8Array(await crypto.subtle.encrypt({ name: "AES-CBC", iv }, this.#aes, plain));
    const token = new Uint8Array(HEAD_BYTES + body.length + MAC_BYTES);
    token[0] = VERSION;
    new DataView(token.buffer).setBigUint64(1, BigInt(Math.floor(now / 1000)));
    token.set(iv, 9);
    token.set(body, HEAD_BYTES);
    const signed = token.subarray(0, HEAD_BYTES + body.length);
    token.set(new Uint8Array(await crypto.subtle.sign("HMAC", this.#mac, signed)), signed.length);
    return encode(token);
  }

  /**
   * @param {string} text a token
   * @returns {Promise<string>} the text in it; rejects if the token is not one under this key
   */
  async decrypt(text) {
    const token = decode(text);
    const body = token.length - HEAD_BYTES - MAC_BYTES;
    if (token[0] !== VERSION || body < BLOCK_BYTES || body % BLOCK_BYTES !== 0) throw new Error("not a Fernet token");
    const signed = token.subarray(0, HEAD_BYTES + body);
    const isRight = await crypto.subtle.verify("HMAC", this.#mac, token.subarray(signed.length), signed);
    if (!isRight) throw new Error("not a token under this key");
    const cipher = { name: "AES-CBC", iv: signed.subarray(9, HEAD_BYTES) };
    const plain = await crypto.subtle.decrypt(cipher, this.#aes, signed.subarray(HEAD_BYTES));
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(plain);
  }
}

/** The keys of one connection, by room. A key is a promise, so that frames behind it need not wait for its import. */
export class Keys {
  #rooms = new Map();

  /** Takes the `encryption_key` frame of a room: its key is now the current one. */
  add({ room, key_id, key }) {
    const keys = this.#rooms.get(room) ?? new Map();
    const fernet = Fernet.of(key);
    fernet.catch(() => {}); // The first use reports it.
    keys.delete(key_id);
    keys.set(key_id, fernet);
    if (keys.size > KEPT_KEYS) keys.delete(keys.keys().next().value);
    this.#rooms.set(room, keys);
  }

  /** The current key of a room. */
  current(room) {
    return [...(this.#rooms.get(room)?.values() ?? [])].at(-1);
  }

  /** The text of a message; `undefined` if it can't be read. */
  async read({ room, key_id, content }) {
    try {
      return await (await this.#rooms.get(room)?.get(key_id)).decrypt(content);
    } catch {
      return undefined;
    }
  }
}

/** URL-safe base64 with padding, in the one form that each content has. */
const BASE64 = /^(?:[\w-]{4})*(?:[\w-][AQgw]==|[\w-]{2}[AEIMQUYcgkosw048]=)?$/;

function decode(text) {
  if (!BASE64.test(text)) throw new Error("not URL-safe base64");
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
}

function encode(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_");
}
