/**
 * Secret bytes as a type: they cannot be printed, serialised or cloned by accident.
 *
 * Reading them is one greppable call (`reveal`), and whoever made the object wipes it in `finally`.
 * Source of the idea: SP 800-57 part 1 section 8.3 (zeroise plaintext copies).
 */
const PLACEHOLDER = '[secret]';

/** The language's own `fill`: that of a Buffer takes several times as long, which small secrets would pay for. */
function clear(bytes: Uint8Array): void {
  Uint8Array.prototype.fill.call(bytes, 0);
}

export class SecretBytes {
  #bytes: Uint8Array | undefined;

  private constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** Takes ownership: the caller keeps no other reference and does not wipe `bytes` itself. */
  static own(bytes: Uint8Array): SecretBytes {
    return new SecretBytes(bytes);
  }

  /** Copies; the source stays the caller's to wipe. */
  static copyOf(bytes: Uint8Array): SecretBytes {
    return new SecretBytes(Uint8Array.from(bytes));
  }

  get length(): number {
    return this.#read().length;
  }

  /** A view of the live bytes, valid until `wipe`; never store or return it. */
  reveal(): Uint8Array {
    return this.#read();
  }

  wipe(): void {
    if (this.#bytes !== undefined) clear(this.#bytes);
    this.#bytes = undefined;
  }

  [Symbol.dispose](): void {
    this.wipe();
  }

  toString(): string {
    return PLACEHOLDER;
  }

  toJSON(): string {
    return PLACEHOLDER;
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return PLACEHOLDER;
  }

  #read(): Uint8Array {
    if (this.#bytes === undefined) throw new Error('secret bytes were read after being wiped');
    return this.#bytes;
  }
}

/** Overwrites buffers that held secrets; accepts `undefined` so that `finally` blocks stay short. */
export function wipe(...buffers: readonly (Uint8Array | SecretBytes | undefined)[]): void {
  for (const buffer of buffers) {
    if (buffer instanceof SecretBytes) buffer.wipe();
    else if (buffer !== undefined) clear(buffer);
  }
}
