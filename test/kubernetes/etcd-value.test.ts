/** Raw values of etcd: what they say, and what is no value. */
import { describe, expect, it } from '@jest/globals';

import { parseEtcdValue } from '../../src/kubernetes/etcd-value.ts';
import { encryptedObject, etcdValue, field, integer, keyIdOfVersion } from './stored-objects.ts';

const parts = {
  keyId: keyIdOfVersion(3),
  ciphertext: Buffer.alloc(60, 1),
  annotations: { 'enc.kms.twofold.internal': Buffer.alloc(1_153, 2) },
};
const whole = encryptedObject(parts);
const refused = (value: Uint8Array) => () => parseEtcdValue(value);

describe('a value of etcd', () => {
  it('of this provider says key_id, ciphertext and annotations', () => {
    const value = parseEtcdValue(etcdValue(whole));
    expect(value).toMatchObject({
      kind: 'kms-v2',
      name: 'twofold',
      object: { keyId: parts.keyId, dataLength: 100, source: 'hkdf-seed' },
    });
    if (value.kind !== 'kms-v2') throw new Error('another kind');
    expect(Buffer.from(value.object.ciphertext)).toEqual(parts.ciphertext);
    expect(Object.keys(value.object.annotations)).toEqual(Object.keys(parts.annotations));
  });

  it.each([
    ['k8s:enc:aescbc:v1:key1:rest', 'aescbc', 'key1'],
    ['k8s:enc:aesgcm:v1:k:rest', 'aesgcm', 'k'],
    ['k8s:enc:secretbox:v1:k:', 'secretbox', 'k'],
    ['k8s:enc:kms:v1:vault:rest', 'kms-v1', 'vault'],
  ])('%s is of %s', (text, kind, name) => {
    expect(parseEtcdValue(Buffer.from(text))).toEqual({ kind, name });
  });

  it.each(['', 'k8s\0\n', '{"kind":"Secret"}', 'k8s:en'])('%j is in the clear', (text) => {
    expect(parseEtcdValue(Buffer.from(text))).toEqual({ kind: 'identity' });
  });

  it.each([
    ['no provider', Buffer.from('k8s:enc:')],
    ['no name', Buffer.from('k8s:enc:aescbc:v1')],
    ['an empty name', Buffer.from('k8s:enc:kms:v2::x')],
    ['another provider', Buffer.from('k8s:enc:rot13:v1:k:x')],
    ['a member of every object', Buffer.from('k8s:enc:constructor:v1:k:x')],
    [
      'a name without end',
      Buffer.concat([Buffer.from('k8s:enc:kms:v2:'), Buffer.alloc(5_000, 97)]),
    ],
    ['nothing behind its name', etcdValue(Buffer.alloc(0))],
    ['a field too many', etcdValue(Buffer.concat([whole, field(6, Buffer.alloc(1))]))],
    ['a field twice', etcdValue(Buffer.concat([whole, field(2, Buffer.from('x'))]))],
    ['another wire type', etcdValue(Buffer.concat([whole, Buffer.from([5 * 8 + 1])]))],
    ['data as a number', etcdValue(integer(1, 5))],
    ['a data key of another kind', etcdValue(Buffer.concat([whole.subarray(0, -1), Buffer.of(7)]))],
    ['no key_id', etcdValue(encryptedObject({ ...parts, keyId: '' }))],
    ['a long key_id', etcdValue(encryptedObject({ ...parts, keyId: 'k'.repeat(1_025) }))],
    ['a key_id that is no text', etcdValue(field(2, Buffer.from([0xff])))],
    ['no ciphertext', etcdValue(encryptedObject({ ...parts, ciphertext: Buffer.alloc(0) }))],
    [
      'a long ciphertext',
      etcdValue(encryptedObject({ ...parts, ciphertext: Buffer.alloc(1_025) })),
    ],
    ['no data', etcdValue(encryptedObject({ ...parts, data: Buffer.alloc(0) }))],
    [
      'a bad annotation',
      etcdValue(encryptedObject({ ...parts, annotations: { X: Buffer.alloc(1) } })),
    ],
    [
      'long annotations',
      etcdValue(encryptedObject({ ...parts, annotations: { 'a.b': Buffer.alloc(33_000) } })),
    ],
    ['a length past the end', etcdValue(Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]))],
    ['a length of eleven groups', etcdValue(Buffer.from([0x0a, ...Buffer.alloc(11, 0xff)]))],
  ])('with %s is refused', (_name, value) => {
    expect(refused(value)).toThrow(expect.objectContaining({ code: 'invalid_value' }));
  });

  it('cut anywhere, or with any byte changed, is refused or another value, and never a crash', () => {
    const value = etcdValue(whole);
    for (let at = 0; at < value.length; at += 1) {
      const changed = Buffer.from(value);
      changed[at] = (changed[at] ?? 0) ^ 0x81;
      for (const broken of [value.subarray(0, at), changed]) {
        try {
          parseEtcdValue(broken);
        } catch (error) {
          expect(error).toMatchObject({ code: 'invalid_value' });
        }
      }
    }
  });
});
