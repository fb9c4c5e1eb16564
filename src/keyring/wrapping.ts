/** Wrap, unwrap, rewrap and the KEM operations. */
import type { Grant } from '../access/grant.ts';
import type { Engine } from '../crypto/engine.ts';
import { parseEnvelope } from '../crypto/envelope.ts';
import type { Envelope } from '../crypto/envelope.ts';
import { wipe } from '../crypto/secret.ts';
import type { SecretBytes } from '../crypto/secret.ts';
import type { AeadKey, KemHalves, KemSuite, Suite } from '../crypto/suite.ts';
import {
  decapsulateKey,
  encapsulateKey,
  openEnvelope,
  openSymmetric,
  sealEnvelope,
  sealSymmetric,
} from '../crypto/wrap.ts';
import { TwofoldError } from '../errors.ts';
import { handleId } from './material.ts';
import type { Binding, KeyUse, Origin } from './operations.ts';
import { publicHalvesOf } from './public-halves.ts';
import { requirePurpose, selectTelling, toProcess, toProtect } from './selection.ts';
import type { Selected } from './selection.ts';
import type { Unsealed } from './unsealed.ts';
import { hsmKeyOf } from './use-parts.ts';
import type { UseParts } from './use-parts.ts';
import { manyOperations } from './wrapping-many.ts';

type WrapOperations = Pick<
  KeyUse,
  | 'wrap'
  | 'wrapMany'
  | 'unwrap'
  | 'unwrapMany'
  | 'rewrap'
  | 'rewrapMany'
  | 'encapsulate'
  | 'decapsulate'
>;

function requireKem(suite: Suite): KemSuite {
  if (suite.kind !== 'kem') throw new TwofoldError('wrong_purpose', 'The suite is not a KEM.');
  return suite;
}

/** Joined public keys by the version's material, so that the halves are checked and joined once. */
const joined = new WeakMap<object, Uint8Array>();

export function kemPublicKey(engine: Engine, suite: KemSuite, selected: Selected): Uint8Array {
  const known = joined.get(selected.material);
  if (known !== undefined) return known;
  const publicKey = suite.kem.joinPublicKey(engine, publicHalvesOf(suite, selected.material));
  joined.set(selected.material, publicKey);
  return publicKey;
}

export function wrapOperations(parts: UseParts): WrapOperations {
  const { catalog, halves, uses, ledger, hsm, engine, now } = parts;

  const aeadKey = (selected: Selected): AeadKey => {
    const key = hsmKeyOf(selected);
    return {
      encrypt: async (plaintext, aad) => {
        await uses.countGcm(handleId(selected.keyId, selected.version));
        const { iv, ciphertext } = await hsm.encrypt(key, plaintext, aad);
        return { nonce: iv, ciphertext };
      },
      decrypt: (iv, ciphertext, aad) => hsm.decrypt(key, { iv, ciphertext }, aad),
    };
  };

  const kemHalves = (selected: Selected, unsealed: Unsealed): KemHalves => ({
    pq: (ciphertext) => {
      if (unsealed.decapsulation === null) throw new TwofoldError('integrity_failed');
      return unsealed.decapsulation.decapsulate(ciphertext);
    },
    classical: (ciphertext) => {
      const key = hsmKeyOf(selected);
      return key.spec.kind === 'rsa' ? hsm.decryptOaep(key, ciphertext) : hsm.ecdh(key, ciphertext);
    },
  });

  /** `origin` decides the mode: `anyone` stays HPKE base, `service` binds the version's own secret. */
  const seal = async (
    selected: Selected,
    plaintext: SecretBytes,
    context: Binding,
    { origin, since }: { readonly origin: Origin; readonly since: number },
  ): Promise<Uint8Array> => {
    const { suite, keyId, version: keyVersion } = selected;
    if (suite.kind === 'aead') {
      return sealSymmetric({
        suite,
        keyId,
        keyVersion,
        key: aeadKey(selected),
        context,
        plaintext,
      });
    }
    const kem = requireKem(suite);
    const publicKey = kemPublicKey(engine, kem, selected);
    const request = { suite: kem, keyId, keyVersion, publicKey, context, plaintext };
    await uses.count(handleId(keyId, keyVersion));
    if (origin === 'anyone') return sealEnvelope(engine, request);
    return halves.with(selected, since, ({ psk }) => {
      if (psk === null) throw new TwofoldError('integrity_failed');
      return sealEnvelope(engine, { ...request, psk });
    });
  };

  const open = async (
    selected: Selected,
    envelope: Envelope,
    context: Binding,
    since: number,
  ): Promise<{ plaintext: SecretBytes; origin: Origin }> => {
    const { suite } = selected;
    if (envelope.suite !== suite) throw new TwofoldError('decryption_failed');
    if (envelope.mode === 'symmetric') {
      const key = aeadKey(selected);
      return { plaintext: await openSymmetric(envelope, { key, context }), origin: 'service' };
    }
    const publicKey = kemPublicKey(engine, requireKem(suite), selected);
    const plaintext = await halves.with(selected, since, (unsealed) =>
      openEnvelope(envelope, {
        publicKey,
        halves: kemHalves(selected, unsealed),
        context,
        ...(unsealed.psk === null ? {} : { psk: unsealed.psk }),
      }),
    );
    return { plaintext, origin: envelope.mode === 'psk' ? 'service' : 'anyone' };
  };

  const openFor = async (
    grant: Grant<'unwrap'> | Grant<'rewrap'>,
    { ciphertext, binding, ...selecting }: Parameters<KeyUse['unwrap']>[1],
  ) => {
    const envelope = parseEnvelope(ciphertext);
    const view = await catalog.get(grant.namespace, grant.key ?? '');
    requirePurpose(view, 'wrap');
    if (envelope.keyId !== view.key.id) throw new TwofoldError('key_mismatch');
    const { keyVersion } = envelope;
    const selected = selectTelling(view, selecting, () => toProcess(view, keyVersion, now()));
    const opened = await open(selected, envelope, binding, grant.epoch);
    ledger.count(selected, grant.principal, 'process');
    return { view, selected, ...opened };
  };

  const many = manyOperations(parts, {
    seal: async ({ selected, input: { plaintext, binding }, origin = 'service' }, since) => {
      const ciphertext = await seal(selected, plaintext, binding, { origin, since });
      return { used: selected.used, ciphertext, refreshAfter: null };
    },
    open: async ({ selected, envelope, input: { binding } }, since) => ({
      used: selected.used,
      ...(await open(selected, envelope, binding, since)),
    }),
  });

  return {
    ...many,

    async wrap(grant, { plaintext, binding, keyVersion, ...selecting }) {
      const view = await catalog.get(grant.namespace, grant.key ?? '');
      requirePurpose(view, 'wrap');
      const selected = selectTelling(view, selecting, () => toProtect(view, keyVersion, now()));
      const ciphertext = await seal(selected, plaintext, binding, {
        origin: 'service',
        since: grant.epoch,
      });
      ledger.count(selected, grant.principal, 'protect');
      return { used: selected.used, ciphertext, refreshAfter: null };
    },

    async unwrap(grant, input) {
      const { selected, plaintext, origin } = await openFor(grant, input);
      return { used: selected.used, plaintext, origin };
    },

    async rewrap(grant, to, input) {
      const { ciphertext, binding } = input;
      const { view, selected, plaintext, origin } = await openFor(grant, input);
      try {
        const targetView = to === null ? view : await catalog.get(to.namespace, to.key ?? '');
        requirePurpose(targetView, 'wrap');
        const target = toProtect(targetView, undefined, now());
        if (target.keyId === selected.keyId && target.version === selected.version) {
          return { used: target.used, from: selected.used, ciphertext, changed: false };
        }
        if (origin === 'anyone' && target.suite.kind === 'aead') {
          throw new TwofoldError('origin_would_rise');
        }
        const rewrapped = await seal(target, plaintext, binding, {
          origin,
          since: (to ?? grant).epoch,
        });
        ledger.count(target, grant.principal, 'protect');
        return { used: target.used, from: selected.used, ciphertext: rewrapped, changed: true };
      } finally {
        wipe(plaintext);
      }
    },

    async encapsulate(grant, { keyVersion, ...selecting }) {
      const view = await catalog.get(grant.namespace, grant.key ?? '');
      requirePurpose(view, 'kem');
      const selected = selectTelling(view, selecting, () => toProtect(view, keyVersion, now()));
      const suite = requireKem(selected.suite);
      await uses.count(handleId(selected.keyId, selected.version));
      const result = await encapsulateKey(engine, {
        suite,
        keyId: selected.keyId,
        keyVersion: selected.version,
        publicKey: kemPublicKey(engine, suite, selected),
      });
      ledger.count(selected, grant.principal, 'protect');
      return { used: selected.used, ...result };
    },

    async decapsulate(grant, { encapsulation, keyVersion, ...selecting }) {
      const view = await catalog.get(grant.namespace, grant.key ?? '');
      requirePurpose(view, 'kem');
      const selected = selectTelling(view, selecting, () => toProcess(view, keyVersion, now()));
      const suite = requireKem(selected.suite);
      const publicKey = kemPublicKey(engine, suite, selected);
      const sharedSecret = await halves.with(selected, grant.epoch, (unsealed) =>
        decapsulateKey({
          suite,
          keyId: selected.keyId,
          keyVersion: selected.version,
          publicKey,
          halves: kemHalves(selected, unsealed),
          encapsulation,
        }),
      );
      ledger.count(selected, grant.principal, 'process');
      return { used: selected.used, sharedSecret };
    },
  };
}
