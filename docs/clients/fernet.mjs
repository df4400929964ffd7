// Fernet tokens (github.com/fernet/spec) with the Web Crypto API of browsers and Node.
const { subtle } = globalThis.crypto;
const decode = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const encode = (bytes) => btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join("")).replace(/\+/g, "-").replace(/\//g, "_");

export class Fernet {
  // `key` is the 44 characters of a Fernet key.
  static async of(key) {
    const bytes = decode(key);
    const fernet = new Fernet();
    fernet.mac = await subtle.importKey("raw", bytes.slice(0, 16), { name: "HMAC", hash: "SHA-256" }, false, ["sign", "verify"]);
    fernet.aes = await subtle.importKey("raw", bytes.slice(16), "AES-CBC", false, ["encrypt", "decrypt"]);
    return fernet;
  }

  async encrypt(text) {
    const iv = crypto.getRandomValues(new Uint8Array(16));
    const body = new Uint8Array(await subtle.encrypt({ name: "AES-CBC", iv }, this.aes, new TextEncoder().encode(text)));
    const token = new Uint8Array(25 + body.length + 32);
    token[0] = 0x80;
    new DataView(token.buffer).setBigUint64(1, BigInt(Math.floor(Date.now() / 1000)));
    token.set(iv, 9);
    token.set(body, 25);
    token.set(new Uint8Array(await subtle.sign("HMAC", this.mac, token.slice(0, -32))), 25 + body.length);
    return encode(token);
  }

  async decrypt(text) {
    const token = decode(text);
    const signed = token.slice(0, -32);
    if (!(await subtle.verify("HMAC", this.mac, token.slice(-32), signed))) throw new Error("not a token under this key");
    const body = await subtle.decrypt({ name: "AES-CBC", iv: signed.slice(9, 25) }, this.aes, signed.slice(25));
    return new TextDecoder().decode(body);
  }
}
