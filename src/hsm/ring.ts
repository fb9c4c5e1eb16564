/**
 * A ring of bytes in shared memory from one thread to another: one writes frames, one reads them in
 * order, and neither waits. A frame may be secret: its reader overwrites it as soon as it is done.
 *
 *     control  written u32 ‖ read u32, as free-running counts of bytes
 *     data     frames, each: length u32 ‖ bytes, padded to 8; a frame never wraps, what is left before
 *              the end is skipped by a length of 2^32 - 1
 */
const CONTROL_BYTES = 64;
const WRITTEN = 0;
const READ = 1;
const LENGTH_BYTES = 4;
const ALIGNMENT = 8;
const SKIP = 0xffff_ffff;

export class Ring {
  readonly #control: Int32Array;
  readonly #data: Buffer;
  readonly #capacity: number;
  /** Bytes of the frame that was read and not yet released, its length and padding included. */
  #held = 0;

  /** Over memory of `Ring.allocate`, in either thread. */
  constructor(memory: SharedArrayBuffer) {
    this.#control = new Int32Array(memory, 0, CONTROL_BYTES / 4);
    this.#data = Buffer.from(memory, CONTROL_BYTES);
    this.#capacity = this.#data.length;
  }

  /** `capacity` is a power of two, at least 8: the counts wrap at 2^32. */
  static allocate(capacity: number): SharedArrayBuffer {
    if (capacity < ALIGNMENT || !Number.isInteger(Math.log2(capacity))) {
      throw new RangeError('the capacity of a ring is a power of two');
    }
    return new SharedArrayBuffer(CONTROL_BYTES + capacity);
  }

  /** Writes a frame of `length` bytes by `fill`, which is given exactly them; false when it has no room. */
  write(length: number, fill: (frame: Buffer) => void): boolean {
    const size = sizeOf(length);
    const written = Atomics.load(this.#control, WRITTEN);
    const free = this.#capacity - ((written - Atomics.load(this.#control, READ)) >>> 0);
    const at = this.#offset(written);
    const left = this.#capacity - at;
    const skipped = size > left ? left : 0;
    if (skipped + size > free) return false;
    if (skipped > 0) this.#data.writeUInt32LE(SKIP, at);
    const start = skipped > 0 ? 0 : at;
    this.#data.writeUInt32LE(length, start);
    fill(this.#data.subarray(start + LENGTH_BYTES, start + LENGTH_BYTES + length));
    Atomics.store(this.#control, WRITTEN, (written + skipped + size) | 0);
    return true;
  }

  /** The next frame, which is valid until `release`; undefined when there is none. */
  read(): Buffer | undefined {
    let read = Atomics.load(this.#control, READ);
    if (read === Atomics.load(this.#control, WRITTEN)) return undefined;
    let at = this.#offset(read);
    let length = this.#data.readUInt32LE(at);
    if (length === SKIP) {
      read = (read + this.#capacity - at) | 0;
      Atomics.store(this.#control, READ, read);
      at = 0;
      length = this.#data.readUInt32LE(0);
    }
    this.#held = sizeOf(length);
    return this.#data.subarray(at + LENGTH_BYTES, at + LENGTH_BYTES + length);
  }

  /** Overwrites the frame that was read and gives its room back. */
  release(): void {
    const read = Atomics.load(this.#control, READ);
    const at = this.#offset(read);
    this.#data.fill(0, at, at + this.#held);
    Atomics.store(this.#control, READ, (read + this.#held) | 0);
    this.#held = 0;
  }

  /** Overwrites everything, when the other thread is gone. */
  wipe(): void {
    this.#data.fill(0);
  }

  #offset(count: number): number {
    return (count >>> 0) % this.#capacity;
  }
}

function sizeOf(length: number): number {
  return Math.ceil((LENGTH_BYTES + length) / ALIGNMENT) * ALIGNMENT;
}
