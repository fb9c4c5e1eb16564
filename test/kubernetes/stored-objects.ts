/** Values as an API server writes them into etcd, by an encoder of the tests' own. */
const varint = (value: number): Buffer => {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return Buffer.from([...bytes, rest]);
};

export const field = (number: number, bytes: Uint8Array): Buffer =>
  Buffer.concat([varint(number * 8 + 2), varint(bytes.length), bytes]);

export const integer = (number: number, value: number): Buffer =>
  Buffer.concat([varint(number * 8), varint(value)]);

/** Of the key 00112233-4455-6677-8899-aabbccddeeff. */
export const keyIdOfVersion = (version: number): string => {
  const reference = Buffer.alloc(20);
  Buffer.from('00112233445566778899aabbccddeeff', 'hex').copy(reference);
  reference.writeUInt32BE(version, 16);
  return `tfk1.${reference.toString('base64url')}`;
};
export const KEY_UUID = '00112233-4455-6677-8899-aabbccddeeff';

export interface ObjectParts {
  readonly keyId: string;
  readonly ciphertext: Uint8Array;
  readonly annotations: Readonly<Record<string, Uint8Array>>;
  readonly data?: Uint8Array;
}

export const encryptedObject = ({ keyId, ciphertext, annotations, data }: ObjectParts): Buffer =>
  Buffer.concat([
    field(1, data ?? Buffer.alloc(100, 7)),
    field(2, Buffer.from(keyId)),
    field(3, ciphertext),
    ...Object.entries(annotations).map(([name, value]) =>
      field(4, Buffer.concat([field(1, Buffer.from(name)), field(2, value)])),
    ),
    integer(5, 1),
  ]);

export const etcdValue = (object: Uint8Array, name = 'twofold'): Buffer =>
  Buffer.concat([Buffer.from(`k8s:enc:kms:v2:${name}:`), object]);
