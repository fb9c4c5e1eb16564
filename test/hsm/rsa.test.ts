/** RSA in a real token: what its keys may do, faults of the token, and how long generation may take. */
import { createPublicKey, generateKeyPairSync, randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { decodeOaep } from '../../src/crypto/oaep.ts';
import { CKA, CKM, CKR } from '../../src/hsm/cryptoki.ts';
import type { Cryptoki } from '../../src/hsm/cryptoki.ts';
import { failureOf } from '../../src/hsm/failures.ts';
import { openOaep, opensOwn } from '../../src/hsm/oaep-call.ts';
import { readAttribute, readFlag } from '../../src/hsm/objects.ts';
import type { PooledHsm } from '../../src/hsm/pool.ts';
import type { HsmKey, HsmKeySpec } from '../../src/hsm/port.ts';
import { generatePair, SESSION, using } from '../../src/hsm/probe-keys.ts';
import { probe } from '../../src/hsm/probe.ts';
import { encodeRsaPublicKey, encryptOaep, modulusOf } from '../../src/hsm/rsa.ts';
import { Orders } from './cryptoki-hook.ts';
import { withConnection } from './import-keys.ts';
import { makeToken, ROOT } from './token-fixture.ts';
import type { TokenFixture } from './token-fixture.ts';

const HOOK = new URL('./cryptoki-hook.ts', import.meta.url).href;
const SIGNS = {
  kind: 'rsa',
  bits: 2048,
  use: 'sign',
  padding: 'pkcs1',
  hash: 'SHA-256',
} as const;
const DECRYPTS = { kind: 'rsa', bits: 2048, use: 'decrypt', hash: 'SHA-256' } as const;
const HMAC = { kind: 'hmac', hash: 'SHA-256', bytes: 32 } as const;
const DATA = Buffer.from('data');

let fixture: TokenFixture;
let hsm: PooledHsm | undefined;
let orders = new Orders();

beforeAll(async () => {
  fixture = await makeToken();
});
afterEach(async () => {
  await hsm?.close();
  hsm = undefined;
});
afterAll(() => {
  fixture.remove();
});

async function open(change: Parameters<TokenFixture['open']>[0] = {}): Promise<PooledHsm> {
  orders = new Orders();
  hsm = await fixture.open({ hook: { url: HOOK, data: orders.memory }, ...change });
  await hsm.useRoot(ROOT);
  return hsm;
}

async function make(port: PooledHsm, spec: HsmKeySpec): Promise<HsmKey> {
  const material = await port.generate(spec, { custody: 'hsm-wrapped' });
  return { id: randomUUID(), spec, material };
}

/** Replaces a function of the binding by one that is given the original. */
function replace(
  cryptoki: Cryptoki,
  name:
    'C_CreateObject' | 'C_GenerateKeyPair' | 'C_GetAttributeValue' | 'C_DecryptInit' | 'C_Decrypt',
  by: (original: (...given: unknown[]) => unknown, given: unknown[]) => unknown,
): void {
  const original = cryptoki[name].bind(cryptoki) as (...given: unknown[]) => unknown;
  const value = (...given: unknown[]) => by(original, given);
  Object.defineProperty(cryptoki, name, { value, configurable: true });
}

describe('a public key as bytes', () => {
  it.each([2048, 3072, 4096] as const)(
    'of %i bits is what another implementation writes',
    (bits) => {
      const { publicKey } = generateKeyPairSync('rsa', { modulusLength: bits });
      const der = Uint8Array.from(publicKey.export({ format: 'der', type: 'pkcs1' }));
      const modulus = Buffer.from(publicKey.export({ format: 'jwk' }).n ?? '', 'base64url');
      expect(encodeRsaPublicKey(modulus)).toEqual(der);
      expect(Buffer.from(modulusOf(bits, der) ?? [])).toEqual(modulus);
    },
  );

  it('has one form', () => {
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const der = Uint8Array.from(publicKey.export({ format: 'der', type: 'pkcs1' }));
    const changed = (index: number, flip: number) =>
      der.map((byte, at) => (at === index ? byte ^ flip : byte));
    const even = der.length - 6;
    for (const wrong of [
      ...[0, 1, 2, 3, 4, 5, 6, 7, 8].map((index) => changed(index, 1)),
      ...[changed(9, 0x80), changed(even, 1), changed(der.length - 1, 2), changed(even + 1, 1)],
      ...[der.subarray(1), der.subarray(0, -1), Uint8Array.of(...der, 0), new Uint8Array()],
    ]) {
      expect(modulusOf(2048, wrong)).toBeUndefined();
    }
    expect(modulusOf(3072, der)).toBeUndefined();
    const three = generateKeyPairSync('rsa', { modulusLength: 2048, publicExponent: 3 }).publicKey;
    expect(modulusOf(2048, three.export({ format: 'der', type: 'pkcs1' }))).toBeUndefined();
  });
});

describe('an RSA key in the token', () => {
  it.each([
    ['signs', SIGNS, CKA.SIGN],
    ['decrypts', DECRYPTS, CKA.DECRYPT],
  ] as const)('that %s may do nothing else', async (_, spec, allowed) => {
    await withConnection(fixture, (connection) => {
      const { handle } = generatePair(connection, spec);
      using(connection, handle, () => {
        connection.run((session, cryptoki) => {
          for (const flag of [CKA.SIGN, CKA.DECRYPT, CKA.UNWRAP, CKA.DERIVE, CKA.EXTRACTABLE]) {
            expect(readFlag(cryptoki, session, handle, flag)).toBe(flag === allowed);
          }
          expect(readFlag(cryptoki, session, handle, CKA.SENSITIVE)).toBe(true);
          const exponent = readAttribute(cryptoki, session, handle, CKA.PUBLIC_EXPONENT);
          expect(exponent?.toString('hex')).toBe('010001');
        });
        const mechanism = { mechanism: CKM.RSA_X_509 };
        const other = () =>
          connection.run((session, cryptoki) =>
            spec.use === 'sign'
              ? cryptoki.C_DecryptInit(session, mechanism, handle)
              : cryptoki.C_SignInit(session, mechanism, handle),
          );
        expect(other).toThrow(/CKR_KEY_FUNCTION_NOT_PERMITTED/);
      });
    });
  });

  it.each([
    ['another exponent', CKA.PUBLIC_EXPONENT, () => Buffer.of(3)],
    ['no exponent', CKA.PUBLIC_EXPONENT, () => Buffer.alloc(0)],
    ['a shorter modulus', CKA.MODULUS, (value: Buffer) => value.subarray(1)],
    [
      'an even modulus',
      CKA.MODULUS,
      (value: Buffer) => Buffer.concat([value.subarray(0, -1), Buffer.of(2)]),
    ],
    [
      'a smaller modulus',
      CKA.MODULUS,
      (value: Buffer) => Buffer.concat([Buffer.of(0x7f), value.subarray(1)]),
    ],
  ] as const)('is refused when it is read back with %s', async (_, type, change) => {
    await withConnection(fixture, (connection) => {
      replace(connection.cryptoki, 'C_GetAttributeValue', (original, given) => {
        const read = original(...given) as { type: number; value: Buffer }[];
        return read.map((one) => (one.type === type ? { ...one, value: change(one.value) } : one));
      });
      expect(() => generatePair(connection, SIGNS)).toThrow('not valid');
    });
  });
});

describe('the probe', () => {
  const generations = async (prepare: (cryptoki: Cryptoki) => void) =>
    withConnection(fixture, (connection) => {
      let made = 0;
      prepare(connection.cryptoki);
      replace(connection.cryptoki, 'C_GenerateKeyPair', (original, given) => {
        const { mechanism } = given[1] as { readonly mechanism: number };
        if (mechanism === CKM.RSA_PKCS_KEY_PAIR_GEN) made += 1;
        return original(...given);
      });
      return { ...probe(connection), made };
    });

  it('makes no RSA key where the token imports one', async () => {
    const { capabilities, made } = await generations(() => undefined);
    expect(made).toBe(0);
    const checked = new Map(capabilities.map((one) => [one.name, one.checked]));
    expect(checked.get('rsa-pkcs1:SHA-384')).toBe('known-answer');
    expect(checked.get('rsa-oaep:SHA-256')).toBe('known-answer');
  });

  it('of a token that imports nothing makes two, and says that it compared', async () => {
    const { capabilities, made } = await generations((cryptoki) => {
      replace(cryptoki, 'C_CreateObject', () => {
        throw Object.assign(new Error('refused'), { code: CKR.TEMPLATE_INCONSISTENT });
      });
    });
    expect(made).toBe(2);
    for (const one of capabilities) {
      expect(one).toMatchObject({ available: true, checked: 'consistency' });
    }
  });

  it('finds a token whose RSA computes something else', async () => {
    const report = await withConnection(fixture, (connection) => {
      const { cryptoki } = connection;
      const original = cryptoki.C_Decrypt.bind(cryptoki);
      Object.defineProperty(cryptoki, 'C_Decrypt', {
        value: (session: Buffer, input: Buffer, room: Buffer) => {
          const opened = original(session, input, room);
          if (opened.length === 256) opened.writeUInt8(opened.readUInt8(200) ^ 1, 200);
          return opened;
        },
      });
      return probe(connection);
    });
    expect(report.wrong).toEqual(['rsa-oaep:SHA-256']);
  });
});

describe('a fault of the token while it decrypts', () => {
  const sealed = (key: HsmKey) => encryptOaep(DECRYPTS, key.material.check, DATA);

  it('that passes is tried again, and is no wrong ciphertext', async () => {
    const port = await open({ workers: 1 });
    const key = await make(port, DECRYPTS);
    await port.decryptOaep(key, sealed(key));
    const answers = ['GENERAL_ERROR', 'DEVICE_ERROR', 'ENCRYPTED_DATA_INVALID', 'FUNCTION_FAILED'];
    for (const name of answers as (keyof typeof CKR)[]) {
      orders.fail('C_Decrypt', CKR[name]);
      const opened = await port.decryptOaep(key, sealed(key));
      expect(Buffer.from(opened.reveal())).toEqual(DATA);
    }
    expect(port.status().tokenEpoch).toBe(1);
  });

  it('that stays accuses the token', async () => {
    const port = await open({ workers: 1 });
    const key = await make(port, DECRYPTS);
    await port.decryptOaep(key, sealed(key));
    orders.fail('C_Decrypt', CKR.GENERAL_ERROR, 2);
    await expect(port.decryptOaep(key, sealed(key))).rejects.toMatchObject({
      code: 'hsm_unavailable',
    });
    expect((await port.decryptOaep(key, sealed(key))).length).toBe(DATA.length);
    expect(port.status().state).toBe('ok');
  });

  it('is not asked for by a ciphertext that is none by its length or range', async () => {
    const port = await open({ workers: 1 });
    const key = await make(port, DECRYPTS);
    await port.decryptOaep(key, sealed(key));
    const before = orders.calls('C_Decrypt');
    const modulus = modulusOf(2048, key.material.check) ?? new Uint8Array();
    for (const wrong of [modulus, new Uint8Array(256).fill(255), sealed(key).subarray(1)]) {
      await expect(port.decryptOaep(key, wrong)).rejects.toMatchObject({
        code: 'decryption_failed',
      });
    }
    expect(orders.calls('C_Decrypt')).toBe(before);
  });

  it('that loses the session is repeated', async () => {
    const port = await open();
    const key = await make(port, DECRYPTS);
    orders.fail('C_Decrypt', CKR.SESSION_HANDLE_INVALID);
    expect((await port.decryptOaep(key, sealed(key))).length).toBe(DATA.length);
    expect(port.status().tokenEpoch).toBe(2);
  });
});

describe('a token that has OAEP with SHA-256 itself', () => {
  /** The binding of a token that has not, made to answer as one that has. */
  function opensItself(cryptoki: Cryptoki, answer: () => number): void {
    let decodes = false;
    replace(cryptoki, 'C_DecryptInit', (original, [session, given, key]) => {
      const { mechanism } = given as { readonly mechanism: number };
      decodes = mechanism === CKM.RSA_PKCS_OAEP;
      return original(session, decodes ? { mechanism: CKM.RSA_X_509 } : given, key);
    });
    replace(cryptoki, 'C_Decrypt', (original, given) => {
      const opened = original(...given) as Buffer;
      if (!decodes) return opened;
      try {
        return Buffer.from(decodeOaep(opened, 256));
      } catch {
        throw Object.assign(new Error('injected'), { code: answer() });
      }
    });
  }

  it('is used so, and gives one answer to what is wrong, whatever it says', async () => {
    await withConnection(fixture, (connection) => {
      const answers = ['GENERAL_ERROR', 'DEVICE_ERROR', 'ENCRYPTED_DATA_INVALID', 'DATA_INVALID'];
      const more = ['ENCRYPTED_DATA_LEN_RANGE', 'FUNCTION_FAILED', 'ARGUMENTS_BAD'];
      let answer: number = CKR.GENERAL_ERROR;
      opensItself(connection.cryptoki, () => answer);
      const { handle, publicKey } = generatePair(connection, DECRYPTS, SESSION, connection.keeper);
      expect(opensOwn(connection, DECRYPTS, handle, publicKey)).toBe(true);
      expect(connection.oaepWay).toBe(CKM.RSA_PKCS_OAEP);
      const other = generatePair(connection, DECRYPTS, SESSION, connection.keeper);
      expect(opensOwn(connection, DECRYPTS, handle, other.publicKey)).toBe(false);
      const sealed = encryptOaep(DECRYPTS, publicKey, DATA);
      for (const name of [...answers, ...more] as (keyof typeof CKR)[]) {
        answer = CKR[name];
        let failed: unknown;
        try {
          openOaep(connection, DECRYPTS, handle, publicKey, new Uint8Array(256));
        } catch (error) {
          failed = failureOf(error, 'produce');
        }
        expect(failed).toEqual({
          code: 'decryption_failed',
          detail: '',
          consequence: 'none',
          returnValue: undefined,
        });
        const opened = openOaep(connection, DECRYPTS, handle, publicKey, sealed);
        expect(Buffer.from(opened)).toEqual(DATA);
      }
    });
  });
});

describe('the making of an RSA key', () => {
  it('holds up nobody else, also where several are asked for', async () => {
    const port = await open({ workers: 2 });
    const mac = await make(port, HMAC);
    const done: string[] = [];
    const before = orders.calls('C_GenerateKeyPair');
    orders.hang('C_GenerateKeyPair', 1_000);
    const made = [1, 2, 3].map(async () => {
      await port.generate(SIGNS, { custody: 'hsm-wrapped' });
      done.push('key');
    });
    for (let round = 0; round < 40; round += 1) {
      await Promise.all(Array.from({ length: 8 }, () => port.mac(mac, DATA)));
      done.push('macs');
    }
    expect(done).toEqual(Array(40).fill('macs'));
    expect(orders.calls('C_GenerateKeyPair') - before).toBe(1);
    await Promise.all(made);
    expect(orders.calls('C_GenerateKeyPair') - before).toBe(3);
  });

  it('does not overtake what a worker was given before', async () => {
    const port = await open({ workers: 2 });
    const mac = await make(port, HMAC);
    orders.hang('C_GenerateKeyPair', 1_000);
    const done: string[] = [];
    const macs = Array.from({ length: 40 }, async () => {
      await port.mac(mac, DATA);
      done.push('mac');
    });
    await port.generate(SIGNS, { custody: 'hsm-wrapped' });
    done.push('key');
    await Promise.all(macs);
    expect(done.indexOf('key')).toBe(40);
  });

  it('is begun although the workers never rest', async () => {
    const port = await open({ workers: 2 });
    const mac = await make(port, HMAC);
    let resting = false;
    const load = Array.from({ length: 40 }, async () => {
      while (!resting) await port.mac(mac, DATA);
    });
    await make(port, SIGNS);
    resting = true;
    await Promise.all(load);
  });

  it('works with a single worker, for which the rest waits', async () => {
    const port = await open({ workers: 1 });
    const mac = await make(port, HMAC);
    const [key] = await Promise.all([make(port, SIGNS), port.mac(mac, DATA), make(port, SIGNS)]);
    expect(await port.sign(key, new Uint8Array(32))).toHaveLength(256);
  });

  it('has more time than other calls, and only it has', async () => {
    const port = await open({ deadlineMs: 500 });
    orders.hang('C_GenerateKeyPair', 1_000);
    const [rsa, ec] = await Promise.allSettled([
      port.generate(SIGNS, { custody: 'hsm-wrapped' }),
      port.generate({ kind: 'ec', curve: 'P-256', use: 'sign' }, { custody: 'hsm-wrapped' }),
    ]);
    expect(rsa.status).toBe('fulfilled');
    expect(ec).toMatchObject({ status: 'rejected', reason: { code: 'hsm_unavailable' } });
  });

  it('counts among what the queue holds', async () => {
    const port = await open({ workers: 2, queueLimit: 4 });
    orders.hang('C_GenerateKeyPair', 300);
    const asked = Array.from({ length: 6 }, () => port.generate(SIGNS, { custody: 'hsm-wrapped' }));
    const codes = (await Promise.allSettled(asked)).map((one) =>
      one.status === 'fulfilled' ? 'ok' : (one.reason as { code: string }).code,
    );
    expect(codes).toEqual(['ok', 'ok', 'ok', 'ok', 'hsm_busy', 'hsm_busy']);
  });
});

describe('a wrapped RSA key', () => {
  it('is a PKCS#8 that comes back for either worker', async () => {
    const port = await open({ workers: 2 });
    const key = await make(port, DECRYPTS);
    const { material } = key;
    expect(material.custody === 'hsm-wrapped' ? material.blob.length : 0).toBeGreaterThan(1_200);
    const node = createPublicKey({
      key: Buffer.from(material.check),
      format: 'der',
      type: 'pkcs1',
    });
    expect(node.asymmetricKeyDetails).toEqual({ modulusLength: 2048, publicExponent: 65_537n });
    const ciphertext = encryptOaep(DECRYPTS, material.check, DATA);
    const opened = await Promise.all(
      Array.from({ length: 64 }, () => port.decryptOaep({ ...key, id: randomUUID() }, ciphertext)),
    );
    for (const one of opened) expect(Buffer.from(one.reveal())).toEqual(DATA);
  });
});
