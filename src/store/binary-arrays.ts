/**
 * One-dimensional arrays in PostgreSQL's binary form (`array_recv`). pg writes an array as text, bytes in
 * it as hexadecimal digits, which both sides then parse; a `Buffer` it sends as it is, in binary.
 */

/** `pg_type.oid` of the elements. */
const OID = { bytea: 17, text: 25, timestamptz: 1184, uuid: 2950 } as const;
/** Dimensions, flags, element type, length, lower bound: four bytes each. */
const HEADER_BYTES = 20;
const LENGTH_BYTES = 4;
const NULL_LENGTH = -1;
/** 2000-01-01T00:00:00Z, from which PostgreSQL counts microseconds. */
const EPOCH_MS = 946_684_800_000;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

export const byteaArray = (values: readonly (Uint8Array | null)[]): Buffer =>
  binaryArray(OID.bytea, values);

export const textArray = (values: readonly (string | null)[]): Buffer =>
  binaryArray(OID.text, values.map(repeated((value) => Buffer.from(value))));

/** @throws RangeError for an invalid date */
export const timestampArray = (values: readonly Date[]): Buffer =>
  binaryArray(OID.timestamptz, values.map(microseconds));

/** @throws RangeError for what is no UUID */
export const uuidArray = (values: readonly (string | null)[]): Buffer =>
  binaryArray(OID.uuid, values.map(repeated(uuid)));

function binaryArray(oid: number, values: readonly (Uint8Array | null)[]): Buffer {
  // An array of nothing has no dimension.
  const bytes = values.reduce(
    (sum, value) => sum + LENGTH_BYTES + (value?.length ?? 0),
    HEADER_BYTES,
  );
  const array = Buffer.allocUnsafe(values.length === 0 ? 12 : bytes);
  array.writeInt32BE(values.length === 0 ? 0 : 1, 0);
  array.writeInt32BE(values.includes(null) ? 1 : 0, 4);
  array.writeInt32BE(oid, 8);
  if (values.length === 0) return array;
  array.writeInt32BE(values.length, 12);
  array.writeInt32BE(1, 16);
  let at = HEADER_BYTES;
  for (const value of values) {
    at = array.writeInt32BE(value?.length ?? NULL_LENGTH, at);
    if (value === null) continue;
    array.set(value, at);
    at += value.length;
  }
  return array;
}

/** Entries of a batch have most texts in common, and those follow one another. */
function repeated(encode: (value: string) => Buffer): (value: string | null) => Buffer | null {
  let known: string | null = null;
  let encoded: Buffer | null = null;
  return (value) => {
    if (value === null) return null;
    if (value !== known) [known, encoded] = [value, encode(value)];
    return encoded;
  };
}

function microseconds(value: Date): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeBigInt64BE(BigInt(value.getTime() - EPOCH_MS) * 1000n);
  return bytes;
}

function uuid(value: string): Buffer {
  if (!UUID.test(value)) throw new RangeError('not a UUID');
  return Buffer.from(value.replaceAll('-', ''), 'hex');
}
