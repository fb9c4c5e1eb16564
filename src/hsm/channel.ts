/**
 * The shared memory between the main thread and one worker: a ring of calls, a ring of answers, and a
 * bell at each end. A message to a thread costs as much as a signature, so the frequent calls do without;
 * the worker sleeps on its bell, and the main thread, which must not sleep, is rung by an empty message
 * at most once until it has looked.
 */
import { Ring } from './ring.ts';

export interface ChannelMemory {
  readonly calls: SharedArrayBuffer;
  readonly replies: SharedArrayBuffer;
  readonly bells: SharedArrayBuffer;
}

/** Longer calls (a plaintext and an aad of 64 KiB each) travel as messages. */
const RING_BYTES = 65_536;
/** Counts what was sent to the worker, so that nothing can arrive between its look and its sleep. */
const SENT = 0;
/** 1 while a message to the main thread is under way. */
const RUNG = 1;

export function allocateChannel(): ChannelMemory {
  return {
    calls: Ring.allocate(RING_BYTES),
    replies: Ring.allocate(RING_BYTES),
    bells: new SharedArrayBuffer(8),
  };
}

export class Channel {
  readonly calls: Ring;
  readonly replies: Ring;
  readonly #bells: Int32Array;

  constructor({ calls, replies, bells }: ChannelMemory) {
    this.calls = new Ring(calls);
    this.replies = new Ring(replies);
    this.#bells = new Int32Array(bells);
  }

  /** Main thread: wakes the worker for what was just written or posted. */
  wakeWorker(): void {
    Atomics.add(this.#bells, SENT, 1);
    Atomics.notify(this.#bells, SENT, 1);
  }

  /** Worker: what `sleepUnlessSent` is to be given, read before it looks for work. */
  sent(): number {
    return Atomics.load(this.#bells, SENT);
  }

  /** Worker: until something is sent after `sent` was read. */
  sleepUnlessSent(sent: number): void {
    Atomics.wait(this.#bells, SENT, sent);
  }

  /** Worker: true when the main thread has to be sent the empty message. */
  ringMain(): boolean {
    return Atomics.exchange(this.#bells, RUNG, 1) === 0;
  }

  /** Main thread, before it looks at the answers. */
  heard(): void {
    Atomics.store(this.#bells, RUNG, 0);
  }

  /** Overwrites what either ring may still hold, when the worker is gone. */
  wipe(): void {
    this.calls.wipe();
    this.replies.wipe();
  }
}
