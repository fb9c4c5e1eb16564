/** Private keys as OpenSSL writes them, in every form, become the same key; and what is none is refused. */
import { createPrivateKey } from 'node:crypto';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

import { ClientError } from '../../src/client/client-error.ts';
import { materialFor } from '../../src/client/key-import.ts';
import { readPrivateKey } from '../../src/client/private-key-file.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import { FORMS, jwkOf, makeForm, OpensslKeys, pqPem, WORDS } from './openssl-keys.ts';

let keys: OpensslKeys;
beforeAll(() => {
  keys = new OpensslKeys();
});
afterAll(() => keys.remove());

const asked: Uint8Array[] = [];
const options = (words = WORDS, raw = false) => ({
  raw,
  passphrase: () => {
    const given = Buffer.from(words);
    asked.push(given);
    return Promise.resolve(given);
  },
});

async function materialOf(file: Uint8Array, suite: string, raw = false) {
  return materialFor(findSuite(suite), await readPrivateKey(file, options(WORDS, raw)));
}

async function codeOf(file: Uint8Array, words = WORDS): Promise<string> {
  try {
    await readPrivateKey(file, options(words));
    return 'read';
  } catch (error) {
    return ClientError.is(error) ? error.code : String(error);
  }
}

const PKCS8 = { format: 'der', type: 'pkcs8' } as const;

describe('the forms of private keys', () => {
  it.each(FORMS)('$form', async (form) => {
    const file = keys.read(makeForm(keys, form));
    const [pem, suite] = [
      `${form.of}.pem`,
      form.of === 'rsa' ? 'RSA-PSS-2048-SHA256' : 'DHKEM-P256',
    ];
    const { key } = await materialOf(file, suite);
    const expected = createPrivateKey(keys.text(pem)).export(PKCS8);
    expect(Buffer.from(key.reveal()).equals(expected)).toBe(true);
    // What was asked for is overwritten.
    expect(asked.every((words) => words.every((byte) => byte === 0))).toBe(true);
  });

  it('seeds, as PKCS #8, JWK (AKP) and bytes; public keys that are not theirs are refused', async () => {
    const kem = pqPem('ml-kem-768').privateKey;
    const seed = createPrivateKey(kem).export({ format: 'raw-seed' });
    // The name of draft-ietf-jose-hpke-pq-pqt.
    const jwk: Readonly<Record<string, string>> = { ...jwkOf(kem), alg: 'HPKE-12' };
    for (const file of [kem, JSON.stringify(jwk), JSON.stringify(jwkOf(kem))]) {
      const { key } = await materialOf(Buffer.from(file), 'ML-KEM-768');
      expect(Buffer.from(key.reveal()).equals(seed)).toBe(true);
    }
    const { publicKey } = await materialOf(seed, 'ML-KEM-768', true);
    expect(Buffer.from(publicKey ?? []).toString('base64url')).toBe(jwk['pub']);
    const other = { ...jwk, pub: jwkOf(pqPem('ml-kem-768').privateKey)['pub'] };
    expect(await codeOf(Buffer.from(JSON.stringify(other)))).toBe('key_unreadable');
  });
});

describe('what is no private key', () => {
  it('is refused as what it is', async () => {
    const pem = keys.text('p256.pem');
    const jwk = jwkOf(pem);
    const texts = [
      '',
      'nothing',
      '{',
      '{"kty":"EC"}',
      JSON.stringify({ kty: 'oct', k: 'a+/=' }),
      JSON.stringify({ ...jwk, d: `${jwk['d'] ?? ''}=` }),
      JSON.stringify({ ...jwkOf(keys.text('rsa.pem')), oth: [] }),
      pem + pem,
      keys.text('p256.crt'),
      pem.replace(/[A-Za-z0-9+/]{10}/u, 'AAAAAAAAAA'),
      pem.replaceAll('PRIVATE KEY', 'OPENSSH PRIVATE KEY'),
    ];
    for (const text of texts) {
      expect([text, await codeOf(Buffer.from(text))]).toEqual([text, 'key_unreadable']);
    }
    expect(await codeOf(Buffer.alloc(262_145, 0x30))).toBe('key_unreadable');
  });

  it('and a PKCS #12 file that was altered or cut anywhere, or has another passphrase or no MAC', async () => {
    keys.run('pkcs12 -export -passout file:words -inkey rsa.pem -in rsa.crt -out whole');
    const file = keys.read('whole');
    expect(await codeOf(file)).toBe('read');
    expect(await codeOf(file, 'another')).toBe('passphrase_wrong');
    const found = new Set<string>();
    for (let place = 0; place < file.length; place += 97) {
      found.add(await codeOf(file.map((byte, index) => (index === place ? byte ^ 0x40 : byte))));
      found.add(await codeOf(file.subarray(0, place)));
    }
    expect([...found].sort()).toEqual(['key_unreadable', 'passphrase_wrong']);
    keys.run('pkcs12 -export -passout file:words -inkey rsa.pem -nocerts -nomac -out whole');
    expect(await codeOf(keys.read('whole'))).toBe('key_unreadable');
  });

  it.each([
    ['PBKDF2', '-v2 aes-256-cbc -iter 2000001', 'too many iterations'],
    ['PBES1', '-v1 PBE-SHA1-3DES -iter 2000001', 'too many iterations'],
    ['scrypt', '-scrypt -scrypt_N 16384 -scrypt_r 8 -scrypt_p 33', 'too much work'],
  ])('and an encrypted key that takes too long to open, by %s, is not opened', (_, by, why) => {
    const argv = `pkcs8 -topk8 -in p256.pem ${by} -passout file:words -out slow`;
    keys.run(argv);
    keys.run(`${argv}.der -outform DER`);
    const before = asked.length;
    return Promise.all(
      ['slow', 'slow.der'].map(async (file) => {
        const refused = readPrivateKey(keys.read(file), options());
        await expect(refused).rejects.toThrow(why);
        expect(asked).toHaveLength(before);
      }),
    );
  });

  it('and one of another suite, which is told what it is good for', async () => {
    const rsa = keys.read('rsa.pem');
    const refusal = (suite: string) => materialOf(rsa, suite).catch((error: unknown) => error);
    expect(await refusal('ECDSA-P256-SHA256')).toMatchObject({
      code: 'key_unfit',
      message:
        'Its key is of the kind rsa, and is for one of: RSA-OAEP-2048-SHA256, RSA-PSS-2048-SHA256, RSA-PKCS1-2048-SHA256.',
    });
    for (const suite of ['RSA-PSS-3072-SHA256', 'A256GCM', 'ML-DSA-65', 'MLKEM768-P256']) {
      expect(await refusal(suite)).toMatchObject({ code: 'key_unfit' });
    }
    for (const [suite, length] of [
      ['A256GCM', 31],
      ['ML-DSA-65', 33],
      ['ECDSA-P256-SHA256', 32],
    ] as const) {
      const refused = materialOf(Buffer.alloc(length), suite, true);
      await expect(refused).rejects.toMatchObject({ code: 'key_unfit' });
    }
  });
});
