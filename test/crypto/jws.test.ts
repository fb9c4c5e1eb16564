/** JWS against jose, and the examples of the JOSE and COSE documents. */
import { createHash, verify } from 'node:crypto';

import { describe, expect, it } from '@jest/globals';
import {
  base64url,
  CompactSign,
  compactVerify,
  flattenedVerify,
  generalVerify,
  importJWK,
} from 'jose';

import { jwkThumbprint, parseJwk, writeJwk } from '../../src/crypto/jwk.ts';
import {
  compactJws,
  flattenedJws,
  fromJoseSignature,
  generalJws,
  parseCompactJws,
  prepareJws,
  toJoseSignature,
} from '../../src/crypto/jws.ts';
import {
  compositeEncoding,
  mlDsaEncoding,
  mlKemEncoding,
  okpEncoding,
  rsaEncoding,
} from '../../src/crypto/key-encoding.ts';
import { writeSpki } from '../../src/crypto/spki.ts';
import { vectorsOf } from '../vectors/published.ts';
import { COMPOSITES, fromSpki, GENERATED, generated, NAMELESS } from './key-encodings.ts';
import { signWith, verifyWith } from './key-encodings.ts';
import type { KeyEncoding, SignatureForm } from '../../src/crypto/key-encoding.ts';
import type { JoseSignatureVector } from '../vectors/published.ts';

const invalid = expect.objectContaining({ code: 'invalid_value' });
const payload = new TextEncoder().encode('{"it":"works"}');

function signatureForm({ signature }: KeyEncoding): SignatureForm {
  if (signature === null) throw new Error('the row does not sign');
  return signature;
}

/** What jose 6.2 with OpenSSL 3.5 verifies. */
const IN_JOSE = /^(?:ES|PS|RS|Ed25519$|ML-DSA-\d\d$)/;
const SIGNING = GENERATED.filter(({ encoding }) => typeof encoding.signature?.jose === 'string');

describe.each(SIGNING.map((row) => [row.encoding.algorithm, row] as const))('%s', (_, row) => {
  const { encoding } = row;
  const form = signatureForm(encoding);
  const { publicKey, privateKey } = row.generate();
  const raw = row.raw(publicKey);
  const unsigned = prepareJws(encoding, { kid: 'a key', typ: 'example' }, payload);
  if (unsigned === null) throw new Error('no JOSE name');
  const signature = signWith(encoding, privateKey, unsigned.signingInput);

  it('comes back from its compact form', () => {
    const parsed = parseCompactJws(encoding, compactJws(form, unsigned, signature));
    expect(parsed).toMatchObject({ kid: 'a key', payload, signature });
    expect(parsed.header).toEqual(
      Object.assign(Object.create(null) as object, {
        alg: form.jose,
        kid: 'a key',
        typ: 'example',
      }),
    );
    expect(parsed.signingInput).toEqual(unsigned.signingInput);
    expect(verifyWith(encoding, publicKey, parsed.signingInput, signature)).toBe(true);
  });

  if (IN_JOSE.test(form.jose ?? '')) {
    it('is verified by jose in each form', async () => {
      const alg = form.jose ?? '';
      const key = await importJWK({ ...writeJwk(encoding, raw) }, alg);
      const algorithms = { algorithms: [alg] };
      const compact = await compactVerify(compactJws(form, unsigned, signature), key, algorithms);
      expect(compact.payload).toEqual(payload);
      await flattenedVerify(flattenedJws(form, unsigned, signature), key, algorithms);
      const { payload: body, signatures } = generalJws(form, unsigned, signature);
      await generalVerify({ payload: body, signatures: [...signatures] }, key, algorithms);
    });

    it('of jose is read and verified', async () => {
      for (const alg of [form.jose ?? '', ...form.joseAlsoReads]) {
        const text = await new CompactSign(payload).setProtectedHeader({ alg }).sign(privateKey);
        const parsed = parseCompactJws(encoding, text);
        expect(parsed).toMatchObject({ kid: null, payload });
        const made = parsed.signature ?? new Uint8Array(0);
        expect(verifyWith(encoding, publicKey, parsed.signingInput, made)).toBe(true);
        expect(Buffer.from(toJoseSignature(form, made)).toString('base64url')).toBe(
          text.split('.')[2],
        );
      }
    });
  }

  it('is refused for every other key', () => {
    const text = compactJws(form, unsigned, signature);
    for (const other of SIGNING) {
      if (other.encoding.signature?.jose === form.jose) continue;
      expect(() => parseCompactJws(other.encoding, text)).toThrow(invalid);
    }
  });
});

describe('r and s', () => {
  const { encoding, generate } = generated('ECDSA-P521');
  const form = signatureForm(encoding);

  it('have the width of the curve and their range', () => {
    const { privateKey } = generate();
    const der = signWith(encoding, privateKey, payload);
    const joined = toJoseSignature(form, der);
    expect(joined.length).toBe(132);
    expect(fromJoseSignature(form, joined)).toEqual(der);
    for (const bad of [
      joined.subarray(1),
      new Uint8Array(132),
      Uint8Array.from([...joined, 0]),
      new Uint8Array(132).fill(255),
      der,
    ]) {
      expect(fromJoseSignature(form, bad)).toBeUndefined();
    }
    expect(() => toJoseSignature(form, joined)).toThrow(RangeError);
  });

  it('that are none are no signature, not an error', () => {
    const unsigned = prepareJws(encoding, { kid: 'k' }, payload);
    const text = `${unsigned?.protectedHeader ?? ''}.${unsigned?.payload ?? ''}`;
    expect(parseCompactJws(encoding, `${text}.AAAA`).signature).toBeNull();
  });
});

describe('the reader of compact JWS', () => {
  const { encoding } = generated('Ed25519');
  const header = (json: string) => `${base64url.encode(json)}.e30.AA`;
  const good = '{"alg":"Ed25519","kid":"k"}';

  it('takes what others may write', () => {
    for (const json of [
      good,
      ' { "alg" : "Ed25519" , "x" : { "alg" : "none" , "y" : [ { "alg" : 1 } ] } } ',
      '{"alg":"EdDSA"}',
      '{"alg":"Ed25519","note":"a \\"quoted\\": colon"}',
    ]) {
      expect(parseCompactJws(encoding, header(json)).payload).toEqual(base64url.decode('e30'));
    }
    expect(parseCompactJws(encoding, `${base64url.encode(good)}..AA`).payload.length).toBe(0);
  });

  it.each([
    ['alg none', '{"alg":"none"}'],
    ['alg NONE', '{"alg":"NONE"}'],
    ['HMAC over the public key', '{"alg":"HS256"}'],
    ['alg of another key', '{"alg":"ES256"}'],
    ['another case', '{"alg":"ed25519"}'],
    ['no alg', '{"kid":"k"}'],
    ['alg that is no string', '{"alg":["Ed25519"]}'],
    ['alg from a prototype', '{"__proto__":{"alg":"Ed25519"}}'],
    ['duplicate alg', '{"alg":"none","alg":"Ed25519"}'],
    ['duplicate names by escapes', '{"alg":"none","\\u0061lg":"Ed25519"}'],
    ['duplicate names further down', '{"alg":"Ed25519","x":[{"a":1,"a":2}]}'],
    ['crit', '{"alg":"Ed25519","crit":["exp"],"exp":1}'],
    ['empty crit', '{"alg":"Ed25519","crit":[]}'],
    ['b64 without crit', '{"alg":"Ed25519","b64":false}'],
    ['a kid that is no string', '{"alg":"Ed25519","kid":1}'],
    ['an array', '["alg"]'],
    ['null', 'null'],
    ['text after it', `${good}x`],
    ['a byte order mark', `\ufeff${good}`],
    ['nothing', ''],
    ['too deep a nesting', `{"alg":"none","x":${'['.repeat(20_000)}${']'.repeat(20_000)}}`],
    ['too many bytes', `{"alg":"Ed25519","x":"${'x'.repeat(50_000)}"}`],
  ])('refuses %s', (_, json) => {
    expect(() => parseCompactJws(encoding, header(json))).toThrow(invalid);
  });

  it('refuses other base64 and other numbers of parts', () => {
    const part = base64url.encode(good);
    const latin = Buffer.from(good.replace('"k"', '"\xff"'), 'latin1').toString('base64url');
    for (const text of [
      '',
      part,
      `${part}.e30`,
      `${part}.e30.AA.AA`,
      `${part}=.e30.AA`,
      `${part}.e31.AA`,
      `${part}.e30.AB`,
      `${part}.e3 0.AA`,
      `${part}.e30.AA==`,
      `${part}.e30.A`,
      `${part}.e30.+/==`,
      ` ${part}.e30.AA`,
      `${part}.e30.AA\n`,
      `${latin}.e30.AA`,
    ]) {
      expect(() => parseCompactJws(encoding, text)).toThrow(invalid);
    }
  });

  it('is not for keys that do not sign or have no name', () => {
    for (const other of [okpEncoding('X25519'), mlKemEncoding('ML-KEM-768'), ...NAMELESS]) {
      expect(() => parseCompactJws(other, header(good))).toThrow(invalid);
      expect(prepareJws(other, { kid: 'k' }, payload)).toBeNull();
    }
    expect(prepareJws(rsaEncoding(2048, 'OAEP', 'SHA-256'), { kid: 'k' }, payload)).toBeNull();
  });
});

const PREFIX = Buffer.from('CompositeAlgorithmSignatures2025');

/** The composites with an EdDSA half: M' of the LAMPS draft with an empty context. */
const EDDSA_COMPOSITES = {
  'ML-DSA-44-Ed25519': ['ML-DSA-44', 'Ed25519', 'COMPSIG-MLDSA44-Ed25519-SHA512', 39],
  'ML-DSA-65-Ed25519': ['ML-DSA-65', 'Ed25519', 'COMPSIG-MLDSA65-Ed25519-SHA512', 48],
  'ML-DSA-87-Ed448': ['ML-DSA-87', 'Ed448', 'COMPSIG-MLDSA87-Ed448-SHAKE256', 51],
} as const;
const PQ_SIGNATURE = { 'ML-DSA-44': 2420, 'ML-DSA-65': 3309, 'ML-DSA-87': 4627 };

function eddsaComposite(alg: keyof typeof EDDSA_COMPOSITES) {
  const [set, curve, label, arc] = EDDSA_COMPOSITES[alg];
  const encoding = compositeEncoding({
    algorithm: label,
    oid: `1.3.6.1.5.5.7.6.${String(arc)}`,
    jwkAlgorithm: alg,
    pq: mlDsaEncoding(set),
    classical: okpEncoding(curve),
  });
  const verifies = (key: Uint8Array, message: Uint8Array, signature: Uint8Array) => {
    const hash =
      curve === 'Ed448' ? createHash('shake256', { outputLength: 64 }) : createHash('sha512');
    const m = Buffer.concat([
      PREFIX,
      Buffer.from(label),
      Buffer.of(0),
      hash.update(message).digest(),
    ]);
    const pq = mlDsaEncoding(set);
    const length = pq.publicKey.kind === 'bytes' ? pq.publicKey.length : 0;
    const spki = (row: KeyEncoding, bytes: Uint8Array) =>
      fromSpki(writeSpki(row, bytes) ?? new Uint8Array(0));
    const split = PQ_SIGNATURE[set];
    const pqKey = spki(pq, key.subarray(0, length));
    return (
      verify(null, m, { key: pqKey, context: Buffer.from(label) }, signature.subarray(0, split)) &&
      verify(null, m, spki(okpEncoding(curve), key.subarray(length)), signature.subarray(split))
    );
  };
  return { encoding, verifies };
}

function pure(alg: string) {
  const { encoding } = generated(alg);
  const verifies = (key: Uint8Array, message: Uint8Array, signature: Uint8Array) =>
    verify(null, message, fromSpki(writeSpki(encoding, key) ?? key), signature);
  return { encoding, verifies };
}

describe('examples of RFC 9964 and draft-ietf-jose-pq-composite-sigs', () => {
  const vectors = vectorsOf('jose-signatures');
  const isOld = ({ name }: JoseSignatureVector) => /-ES\d+/.test(name);

  it.each(
    vectors.filter((vector) => !isOld(vector)).map((vector) => [vector.name, vector] as const),
  )('%s', (_, { jwk, jws }) => {
    const { encoding, verifies } =
      jwk.alg in EDDSA_COMPOSITES
        ? eddsaComposite(jwk.alg as keyof typeof EDDSA_COMPOSITES)
        : pure(jwk.alg);
    const key = parseJwk(encoding, jwk);
    const written = writeJwk(encoding, key, jwk.kid);
    expect(written).toEqual(jwk);
    if (written === null) throw new Error('no JWK');
    expect(Buffer.from(jwkThumbprint(written)).toString('base64url')).toBe(jwk.kid);
    const parsed = parseCompactJws(encoding, jws);
    expect(parsed.kid).toBe(jwk.kid);
    const signature = parsed.signature ?? new Uint8Array(0);
    expect(verifies(key, parsed.signingInput, signature)).toBe(true);
    const unsigned = prepareJws(encoding, { kid: jwk.kid }, parsed.payload);
    if (unsigned === null) throw new Error('no JOSE name');
    expect(compactJws(signatureForm(encoding), unsigned, signature)).toBe(jws);
  });

  // Written four days before the draft's text took the encodings of LAMPS.
  it('with an ECDSA half have the old bytes, which are refused as keys', () => {
    const old = vectors.filter(isOld);
    expect(old.length).toBe(vectors.length === 9 ? 3 : 1);
    const encoding = COMPOSITES.find(({ jwk }) => jwk?.alg === 'ML-DSA-65-ES256');
    for (const { jwk, jws } of old) {
      if (encoding === undefined || jwk.alg !== 'ML-DSA-65-ES256') continue;
      expect(() => parseJwk(encoding, jwk)).toThrow(invalid);
      expect(parseCompactJws(encoding, jws).kid).toBe(jwk.kid);
    }
  });
});

describe('examples of the COSE documents', () => {
  const vectors = vectorsOf('cose-signatures').filter(({ name }) => !/-ES\d+/.test(name));

  it.each(vectors.map((vector) => [vector.name, vector] as const))('%s', (_, vector) => {
    const bytes = (name: 'publicKey' | 'toBeSigned' | 'signature') =>
      Uint8Array.from(Buffer.from(vector[name], 'hex'));
    expect(vector.key).toContain(vector.publicKey);
    expect(vector.sign1).toContain(vector.signature);
    const alg = vector.name.replace('.cose.json', '').replaceAll('_', '-');
    const key = bytes('publicKey');
    if (alg in EDDSA_COMPOSITES) {
      const { verifies } = eddsaComposite(alg as keyof typeof EDDSA_COMPOSITES);
      expect(verifies(key, bytes('toBeSigned'), bytes('signature'))).toBe(true);
      return;
    }
    const spki = writeSpki(generated(alg).encoding, key) ?? key;
    expect(verify(null, bytes('toBeSigned'), fromSpki(spki), bytes('signature'))).toBe(true);
  });
});

describe('examples of draft-ietf-jose-hpke-pq-pqt', () => {
  it('have keys of ML-KEM and of the hybrid that we have', () => {
    const rows = [
      ...COMPOSITES,
      ...(['ML-KEM-768', 'ML-KEM-1024'] as const).map((set) => mlKemEncoding(set)),
    ];
    const counts = vectorsOf('jose-hpke-keys').map(({ alg, jwk }) => {
      const encoding = rows.find((row) => row.jwk?.alg === alg);
      if (encoding === undefined) return 'no row';
      const key = parseJwk(encoding, jwk);
      expect(writeJwk(encoding, key, jwk.kid)).toEqual(jwk);
      return encoding.algorithm;
    });
    expect(new Set(counts)).toEqual(
      new Set(['no row', 'MLKEM768-P256', 'ML-KEM-768', 'ML-KEM-1024']),
    );
  });
});
