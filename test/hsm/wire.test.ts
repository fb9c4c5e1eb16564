import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import type { Operation, Reply } from '../../src/hsm/protocol.ts';
import { Ring } from '../../src/hsm/ring.ts';
import { readCall, readReply, writeCall, writeReply } from '../../src/hsm/wire.ts';

const bytes = fc.uint8Array({ maxLength: 80 });
const key = fc.string({ unit: 'binary', maxLength: 40 }).map((id) => ({ id }));
const call: fc.Arbitrary<Operation> = fc.oneof(
  fc.record({ op: fc.constant('ecdh' as const), key, peer: bytes }),
  fc.record({ op: fc.constant('sign' as const), key, input: bytes }),
  fc.record({ op: fc.constant('decrypt-oaep' as const), key, ciphertext: bytes }),
  fc.record({ op: fc.constant('mac' as const), key, data: bytes }),
  fc.record({ op: fc.constant('mac-many' as const), key, items: bytes }),
  fc.record({ op: fc.constant('rewrap' as const), items: bytes }),
  fc.record({ op: fc.constant('random' as const), bytes: fc.nat(0xffff_ffff) }),
  fc.record({ op: fc.constant('encrypt' as const), key, items: bytes }),
  fc.record({ op: fc.constant('decrypt' as const), key, items: bytes }),
);
const job = fc.nat(0xffff_ffff);
const objects = fc.nat(Number.MAX_SAFE_INTEGER);

const ring = () => new Ring(Ring.allocate(1_024));

/** Buffers compare as the bytes that they are. */
const plain = (value: unknown): unknown =>
  value instanceof Uint8Array
    ? Uint8Array.from(value)
    : typeof value === 'object' && value !== null
      ? Object.fromEntries(Object.entries(value).map(([name, each]) => [name, plain(each)]))
      : value;

describe('a call as a frame', () => {
  it('is read as it was written', () => {
    fc.assert(
      fc.property(job, fc.double({ noNaN: true }), call, (number, deadline, operation) => {
        const carrier = ring();
        expect(writeCall(carrier, number, deadline, operation)).toBe(true);
        const frame = carrier.read() ?? Buffer.alloc(0);
        const read = readCall(frame);
        expect(read.job).toBe(number);
        expect(Object.is(read.deadline, deadline)).toBe(true);
        expect(plain(read.operation)).toEqual(plain(operation));
      }),
    );
  });

  it('names a key whose material it leaves behind', () => {
    const carrier = ring();
    const material = {
      custody: 'hsm-wrapped',
      generation: 1,
      blob: Buffer.alloc(40, 0xa5),
      check: Buffer.alloc(8, 0xa5),
    } as const;
    const whole = { id: 'k', spec: { kind: 'aes', bits: 256 }, material } as const;
    writeCall(carrier, 1, 0, { op: 'encrypt', key: whole, items: Buffer.from('p') });
    const frame = carrier.read() ?? Buffer.alloc(0);
    expect(frame.includes(0xa5)).toBe(false);
    expect(readCall(frame).operation).toMatchObject({ key: { id: 'k' } });
  });

  it('is for the frequent calls, and for what the ring has room for', () => {
    expect(writeCall(ring(), 1, 0, { op: 'probe' })).toBe(false);
    expect(writeCall(ring(), 1, 0, { op: 'forget', id: 'k' })).toBe(false);
    const large = { op: 'mac', key: { id: 'k' }, data: Buffer.alloc(2_000) } as const;
    expect(writeCall(ring(), 1, 0, large)).toBe(false);
  });
});

describe('an answer as a frame', () => {
  const failure = fc.record({
    code: fc.constantFrom('hsm_busy' as const, 'hsm_unavailable' as const),
    detail: fc.string(),
    consequence: fc.constantFrom('none' as const, 'lost' as const),
    returnValue: fc.option(fc.nat(), { nil: undefined }),
  });
  const reply: fc.Arbitrary<Reply> = fc.oneof(
    fc.record({ job, objects, unknownKey: fc.constant(true as const) }),
    fc.record({ job, objects, failure }),
    fc.record({ job, objects, result: bytes }),
  );

  it('is read as it was written, in memory that outlives the frame', () => {
    fc.assert(
      fc.property(reply, (given) => {
        const carrier = ring();
        const before = plain(given);
        expect(writeReply(carrier, given)).toBe(true);
        const read = readReply(carrier.read() ?? Buffer.alloc(0));
        carrier.release();
        expect(plain(read)).toEqual(before);
      }),
    );
  });

  it('takes a secret along: nothing of it stays where it was made', () => {
    const result = new Uint8Array(32).fill(7);
    expect(writeReply(ring(), { job: 1, objects: 0, result })).toBe(true);
    expect(result.every((byte) => byte === 0)).toBe(true);
  });

  it('is left as it is when it is not for a frame', () => {
    const result = new Uint8Array(2_000).fill(7);
    expect(writeReply(ring(), { job: 1, objects: 0, result })).toBe(false);
    expect(result.every((byte) => byte === 7)).toBe(true);
    expect(writeReply(ring(), { job: 1, objects: 0, result: undefined })).toBe(false);
    expect(writeReply(ring(), { job: 1, objects: 0, result: [] })).toBe(false);
  });

  it.each([0, 5, 17])('with a length that is not its parts’ is refused (%p bytes cut)', (cut) => {
    const carrier = ring();
    writeReply(carrier, { job: 1, objects: 0, result: new Uint8Array(20) });
    const frame = carrier.read() ?? Buffer.alloc(0);
    const shorter = Buffer.from(frame.subarray(0, frame.length - cut));
    if (cut === 0) expect(readReply(shorter)).toMatchObject({ job: 1 });
    else expect(() => readReply(shorter)).toThrow();
  });
});
