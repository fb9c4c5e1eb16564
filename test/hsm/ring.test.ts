import { Worker } from 'node:worker_threads';
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { Ring } from '../../src/hsm/ring.ts';

const CONTROL_BYTES = 64;
const fillWith =
  (bytes: Uint8Array) =>
  (frame: Buffer): void => {
    frame.set(bytes);
  };

function ends(capacity: number) {
  const memory = Ring.allocate(capacity);
  return { memory, writer: new Ring(memory), reader: new Ring(memory) };
}

/** Reads a frame as a copy; undefined when there is none. */
function take(ring: Ring): Buffer | undefined {
  const frame = ring.read();
  if (frame === undefined) return undefined;
  const copy = Buffer.from(frame);
  ring.release();
  return copy;
}

const step = fc.oneof(
  fc.record({ write: fc.uint8Array({ maxLength: 90 }) }),
  fc.constant({ write: null }),
);

describe('a ring', () => {
  it('gives the frames that it took, in order, whatever is written and read when', () => {
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 200 }),
        fc.integer({ min: 0, max: 40 }),
        (steps, turns) => {
          const { memory, writer, reader } = ends(256);
          // The counts wrap at 2^32: begin shortly before.
          const control = new Int32Array(memory, 0, 2);
          control.fill(-256 * turns);
          const model: Uint8Array[] = [];
          for (const { write } of steps) {
            if (write === null) {
              expect(take(reader)).toEqual(
                model.length === 0 ? undefined : Buffer.from(model.shift() ?? []),
              );
            } else if (writer.write(write.length, fillWith(write))) {
              model.push(write);
            } else {
              // Refused only when it is not empty: the largest frame here fits into an empty ring.
              expect(model.length).toBeGreaterThan(0);
            }
          }
          for (const each of model) expect(take(reader)).toEqual(Buffer.from(each));
          expect(take(reader)).toBeUndefined();
        },
      ),
    );
  });

  it('leaves nothing of a frame that was read, nor of any when it is wiped', () => {
    const { memory, writer, reader } = ends(256);
    const data = Buffer.from(memory, CONTROL_BYTES);
    const secret = Buffer.alloc(100, 0xa5);
    for (let round = 0; round < 10; round += 1) {
      expect(writer.write(secret.length, fillWith(secret))).toBe(true);
      expect(data.includes(0xa5)).toBe(true);
      expect(take(reader)).toEqual(secret);
      expect(data.includes(0xa5)).toBe(false);
    }
    writer.write(secret.length, fillWith(secret));
    reader.wipe();
    expect(data.includes(0xa5)).toBe(false);
  });

  it('refuses what is larger than it is, and capacities that its counts could not wrap in', () => {
    const { writer } = ends(64);
    expect(writer.write(61, () => undefined)).toBe(false);
    expect(writer.write(60, () => undefined)).toBe(true);
    expect(writer.write(0, () => undefined)).toBe(false);
    for (const capacity of [0, 4, 65, 1.5])
      expect(() => Ring.allocate(capacity)).toThrow(RangeError);
  });

  it('takes nothing that `fill` failed to write', () => {
    const { writer, reader } = ends(64);
    const failing = () => {
      throw new Error('no bytes');
    };
    expect(() => writer.write(8, failing)).toThrow('no bytes');
    expect(reader.read()).toBeUndefined();
  });

  it('carries frames between two threads', async () => {
    const FRAMES = 20_000;
    const { memory, reader } = ends(1_024);
    const module = new URL('../../src/hsm/ring.ts', import.meta.url).href;
    const source = `
      const { workerData } = require('node:worker_threads');
      import(${JSON.stringify(module)}).then(({ Ring }) => {
        const ring = new Ring(workerData);
        for (let n = 0; n < ${FRAMES}; ) {
          const length = 4 + (n % 61);
          if (ring.write(length, (frame) => { frame.fill(n & 255); frame.writeUInt32LE(n, 0); })) n += 1;
        }
      });`;
    const worker = new Worker(source, { eval: true, workerData: memory });
    try {
      let expected = 0;
      while (expected < FRAMES) {
        const frame = take(reader);
        if (frame === undefined) {
          await new Promise((resolve) => setImmediate(resolve));
          continue;
        }
        const rest = frame.subarray(4);
        if (frame.readUInt32LE(0) !== expected || frame.length !== 4 + (expected % 61)) break;
        if (!rest.equals(Buffer.alloc(rest.length, expected & 255))) break;
        expected += 1;
      }
      expect(expected).toBe(FRAMES);
    } finally {
      await worker.terminate();
    }
  });
});
