/**
 * The frequent calls and their answers as frames of a ring; everything else travels as a message.
 *
 *     call    job u32 ‖ operation u8 ‖ parts u8 ‖ 0 u16 ‖ deadline f64 ‖ parts
 *     answer  job u32 ‖ kind u8 ‖ parts u8 ‖ 0 u16 ‖ objects f64 ‖ parts
 *     part    length u32 ‖ bytes
 *
 * The first part of a call is the key's id, empty where it has no key. Integers are little-endian: both ends are one process.
 */
import { uint32 } from '../crypto/bytes.ts';
import type { Failure } from './failures.ts';
import type { Operation, OperationOf, PostedKey, Reply, Request } from './protocol.ts';
import type { Ring } from './ring.ts';

/** Operations that have a frame, by their number. */
const CALLS = [
  ...(['ecdh', 'sign', 'encrypt', 'decrypt', 'mac', 'random', 'decrypt-oaep', 'mac-many'] as const),
  'rewrap',
] as const;
type Call = OperationOf<(typeof CALLS)[number]>;

const HEADER_BYTES = 16;
const PART_BYTES = 4;
const BYTES = 0;
const UNKNOWN_KEY = 1;
const FAILURE = 2;

/** Writes the call, its key by id alone; false when it has no frame or the ring no room. */
export function writeCall(
  ring: Ring,
  job: number,
  deadline: number,
  operation: Operation,
): boolean {
  const number = CALLS.indexOf(operation.op as Call['op']);
  if (number < 0) return false;
  const call = operation as Call;
  return writeFrame(ring, { job, kind: number, value: deadline }, [
    Buffer.from('key' in call ? call.key.id : '', 'utf8'),
    ...inputsOf(call),
  ]);
}

/** The parts of the call lie in the frame and are gone with it. */
export function readCall(frame: Buffer): Request {
  const { job, kind, value, parts } = readFrame(frame);
  const [id, ...inputs] = parts;
  const op = CALLS[kind];
  if (op === undefined || id === undefined) throw malformed();
  return { job, deadline: value, operation: callOf(op, { id: id.toString('utf8') }, inputs) };
}

/** Writes the answer and wipes what it carries; false, leaving it, when it has no frame or room. */
export function writeReply(ring: Ring, reply: Reply): boolean {
  const { job, objects } = reply;
  const header = (kind: number) => ({ job, kind, value: objects });
  if ('unknownKey' in reply) return writeFrame(ring, header(UNKNOWN_KEY), []);
  if ('failure' in reply) {
    return writeFrame(ring, header(FAILURE), [Buffer.from(JSON.stringify(reply.failure), 'utf8')]);
  }
  const { result } = reply;
  if (!(result instanceof Uint8Array)) return false;
  if (!writeFrame(ring, header(BYTES), [result])) return false;
  result.fill(0);
  return true;
}

/** The answer in memory of its own. */
export function readReply(frame: Buffer): Reply {
  const { job, kind, value: objects, parts } = readFrame(frame);
  const [first] = parts;
  if (kind === UNKNOWN_KEY) return { job, unknownKey: true, objects };
  if (first === undefined) throw malformed();
  if (kind === FAILURE) {
    return { job, failure: JSON.parse(first.toString('utf8')) as Failure, objects };
  }
  if (kind !== BYTES) throw malformed();
  return { job, result: new Uint8Array(first), objects };
}

function inputsOf(call: Call): readonly Uint8Array[] {
  switch (call.op) {
    case 'ecdh':
      return [call.peer];
    case 'sign':
      return [call.input];
    case 'decrypt-oaep':
      return [call.ciphertext];
    case 'encrypt':
    case 'decrypt':
    case 'mac-many':
    case 'rewrap':
      return [call.items];
    case 'mac':
      return [call.data];
    case 'random':
      return [uint32(call.bytes)];
  }
}

function callOf(op: Call['op'], key: PostedKey, inputs: readonly Buffer[]): Call {
  const [first] = inputs;
  if (first === undefined) throw malformed();
  if (op === 'ecdh') return { op, key, peer: first };
  if (op === 'sign') return { op, key, input: first };
  if (op === 'decrypt-oaep') return { op, key, ciphertext: first };
  if (op === 'mac') return { op, key, data: first };
  if (op === 'rewrap') return { op, items: first };
  if (op === 'random') return { op, bytes: Buffer.from(first).readUInt32BE(0) };
  return { op, key, items: first };
}

interface Header {
  readonly job: number;
  readonly kind: number;
  readonly value: number;
}

function writeFrame(ring: Ring, header: Header, parts: readonly Uint8Array[]): boolean {
  const length = parts.reduce((sum, part) => sum + PART_BYTES + part.length, HEADER_BYTES);
  return ring.write(length, (frame) => {
    frame.writeUInt32LE(header.job, 0);
    frame[4] = header.kind;
    frame[5] = parts.length;
    frame.writeUInt16LE(0, 6);
    frame.writeDoubleLE(header.value, 8);
    let at = HEADER_BYTES;
    for (const part of parts) {
      frame.writeUInt32LE(part.length, at);
      frame.set(part, at + PART_BYTES);
      at += PART_BYTES + part.length;
    }
  });
}

function readFrame(frame: Buffer): Header & { readonly parts: readonly Buffer[] } {
  const parts: Buffer[] = [];
  let at = HEADER_BYTES;
  for (let count = frame.readUInt8(5); count > 0; count -= 1) {
    const start = at + PART_BYTES;
    at = start + frame.readUInt32LE(at);
    parts.push(frame.subarray(start, at));
  }
  if (at !== frame.length) throw malformed();
  return {
    job: frame.readUInt32LE(0),
    kind: frame.readUInt8(4),
    value: frame.readDoubleLE(8),
    parts,
  };
}

function malformed(): Error {
  return new Error('a frame between the threads is malformed');
}
