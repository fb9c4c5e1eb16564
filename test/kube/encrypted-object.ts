/**
 * What kube-apiserver stores for KMS v2: `k8s:enc:kms:v2:` provider `:` and an EncryptedObject in Protocol
 * Buffers (k8s.io/apiserver, envelope/kmsv2/v2/api.proto). Taken apart and put together byte for byte.
 */
const PREFIX = /^k8s:enc:kms:v2:([^:]+):/u;

export const FIELDS = {
  encryptedData: 1,
  keyId: 2,
  encryptedDekSource: 3,
  annotations: 4,
  type: 5,
} as const;

/** One field as it stands: its number, and its value without tag and length. */
export interface Field {
  readonly number: number;
  readonly value: Buffer;
}

export interface StoredObject {
  readonly provider: string;
  readonly fields: readonly Field[];
}

/** Base 128 varint at `offset`: its value and where it ends. */
const varint = (bytes: Buffer, offset: number): [number, number] => {
  let [value, at] = [0, offset];
  for (let shift = 0; shift < 35; shift += 7) {
    const byte = bytes.readUInt8(at);
    at += 1;
    value += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) return [value, at];
  }
  throw new Error('a varint without end');
};

const asVarint = (value: number): Buffer => {
  const bytes: number[] = [];
  let rest = value;
  while (rest > 0x7f) {
    bytes.push((rest % 0x80) | 0x80);
    rest = Math.floor(rest / 0x80);
  }
  return Buffer.from([...bytes, rest]);
};

/** @throws where the value is no EncryptedObject of a KMS v2 provider */
export const parseStored = (raw: Buffer): StoredObject => {
  const head = raw.subarray(0, 100).toString('latin1');
  const [prefix, provider] = PREFIX.exec(head) ?? [];
  if (prefix === undefined || provider === undefined) throw new Error(`not of KMS v2: ${head}`);
  const fields: Field[] = [];
  const body = raw.subarray(prefix.length);
  for (let at = 0; at < body.length;) {
    const [tag, afterTag] = varint(body, at);
    const number = Math.floor(tag / 8);
    const [size, afterSize] = varint(body, afterTag);
    if (tag % 8 === 0) {
      fields.push({ number, value: body.subarray(afterTag, afterSize) });
      at = afterSize;
    } else if (tag % 8 === 2) {
      fields.push({ number, value: body.subarray(afterSize, afterSize + size) });
      at = afterSize + size;
    } else throw new Error(`wire type ${tag % 8}`);
  }
  return { provider, fields };
};

export const formatStored = ({ provider, fields }: StoredObject): Buffer =>
  Buffer.concat([
    Buffer.from(`k8s:enc:kms:v2:${provider}:`),
    ...fields.flatMap(({ number, value }) =>
      number === FIELDS.type
        ? [asVarint(number * 8), value]
        : [asVarint(number * 8 + 2), asVarint(value.length), value],
    ),
  ]);

export const fieldOf = ({ fields }: StoredObject, name: keyof typeof FIELDS): Buffer => {
  const found = fields.find(({ number }) => number === FIELDS[name]);
  if (found === undefined) throw new Error(`no ${name}`);
  return found.value;
};

export const keyIdOf = (raw: Buffer): string => fieldOf(parseStored(raw), 'keyId').toString('utf8');

/** The same with one field changed. */
export const withField = (
  raw: Buffer,
  name: keyof typeof FIELDS,
  change: (value: Buffer) => Buffer,
): Buffer => {
  const object = parseStored(raw);
  if (!object.fields.some(({ number }) => number === FIELDS[name])) throw new Error(`no ${name}`);
  const fields = object.fields.map((field) =>
    field.number === FIELDS[name] ? { ...field, value: change(Buffer.from(field.value)) } : field,
  );
  return formatStored({ ...object, fields });
};
