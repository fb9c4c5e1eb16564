/** Sign, verify, and the MAC operations. */
import type { Grant } from '../access/grant.ts';
import { equalBytes } from '../crypto/bytes.ts';
import { SecretBytes, wipe } from '../crypto/secret.ts';
import type { SigningKey } from '../crypto/engine.ts';
import type { MacSuite, SignatureSuite, SignHalves, Suite } from '../crypto/suite.ts';
import { TwofoldError } from '../errors.ts';
import { handleId } from './material.ts';
import type { KeyUse, Selecting, SignInput, Used } from './operations.ts';
import { publicHalvesOf } from './public-halves.ts';
import { requirePurpose, selectTelling, toProtect, toVerify } from './selection.ts';
import type { Selected } from './selection.ts';
import { hsmKeyOf } from './use-parts.ts';
import type { UseParts } from './use-parts.ts';

/** What is signed, made of the version that was selected: a JWS names it, for one. */
export interface Composed {
  /** @throws TwofoldError when the version cannot be used so; nothing was counted or signed yet */
  readonly compose: (selected: Selected) => Uint8Array;
}

/** `sign` as the rest of the keyring sees it. */
export type Sign = (
  grant: Grant<'sign'> | Grant<'csr'>,
  input: (SignInput | Composed) & {
    readonly signatureContext: Uint8Array;
    readonly keyVersion?: number;
  } & Selecting,
) => Promise<{ readonly used: Used; readonly signature: Uint8Array }>;

interface SignOperations extends Pick<KeyUse, 'verify' | 'mac' | 'verifyMac' | 'random'> {
  readonly sign: Sign;
}

/** Most bytes that one call of `random` answers. */
export const MAX_RANDOM_BYTES = 4_096;

export function requireSignature(suite: Suite): SignatureSuite {
  if (suite.kind !== 'signature') throw new TwofoldError('wrong_purpose');
  return suite;
}

function requireMac(suite: Suite): MacSuite {
  if (suite.kind !== 'mac') throw new TwofoldError('wrong_purpose');
  return suite;
}

/** As `kemPublicKey`: joined once per material. */
const joined = new WeakMap<object, Uint8Array>();

export function signaturePublicKey(suite: SignatureSuite, selected: Selected): Uint8Array {
  const known = joined.get(selected.material);
  if (known !== undefined) return known;
  const publicKey = suite.signer.joinPublicKey(publicHalvesOf(suite, selected.material));
  joined.set(selected.material, publicKey);
  return publicKey;
}

export function signOperations(parts: UseParts): SignOperations {
  const { catalog, halves, uses, ledger, hsm, engine, now } = parts;

  const computeMac = async (selected: Selected, message: Uint8Array): Promise<SecretBytes> => {
    requireMac(selected.suite);
    return SecretBytes.own(await hsm.mac(hsmKeyOf(selected), message));
  };

  const signHalves = (selected: Selected, signing: SigningKey | null): SignHalves => {
    const software = () => {
      if (signing === null) throw new TwofoldError('integrity_failed');
      return signing;
    };
    return {
      pq: (message, context) => software().sign(message, context),
      mu: (mu) => software().signMu(mu),
      classical: (input) => hsm.sign(hsmKeyOf(selected), input),
    };
  };

  return {
    async sign(grant, { signatureContext, keyVersion, onKey, onSelected, ...input }) {
      const view = await catalog.get(grant.namespace, grant.key ?? '');
      requirePurpose(view, 'sign');
      const selecting = { onKey, onSelected };
      const selected = selectTelling(view, selecting, () => toProtect(view, keyVersion, now()));
      const { signer } = requireSignature(selected.suite);
      const given = 'compose' in input ? { message: input.compose(selected) } : input;
      await uses.count(handleId(selected.keyId, selected.version));
      const signature = await halves.with(selected, grant.epoch, ({ signing }) =>
        signer.sign(given, signatureContext, signHalves(selected, signing)),
      );
      ledger.count(selected, grant.principal, 'protect');
      return { used: selected.used, signature };
    },

    async verify(grant, { signatureContext, signature, keyVersion, onKey, onSelected, ...input }) {
      const view = await catalog.get(grant.namespace, grant.key ?? '');
      requirePurpose(view, 'sign');
      const selecting = { onKey, onSelected };
      const selected = selectTelling(view, selecting, () => toVerify(view, keyVersion, now()));
      const suite = requireSignature(selected.suite);
      const publicKey = signaturePublicKey(suite, selected);
      const valid = await suite.signer.verify(
        engine,
        publicKey,
        input,
        signatureContext,
        signature,
      );
      ledger.count(selected, grant.principal, 'process');
      return { used: selected.used, valid };
    },

    async mac(grant, { message, keyVersion, ...selecting }) {
      const view = await catalog.get(grant.namespace, grant.key ?? '');
      requirePurpose(view, 'mac');
      const selected = selectTelling(view, selecting, () => toProtect(view, keyVersion, now()));
      await uses.count(handleId(selected.keyId, selected.version));
      const made = await computeMac(selected, message);
      ledger.count(selected, grant.principal, 'protect');
      return { used: selected.used, mac: made };
    },

    async verifyMac(grant, { message, mac, keyVersion, ...selecting }) {
      const view = await catalog.get(grant.namespace, grant.key ?? '');
      requirePurpose(view, 'mac');
      const selected = selectTelling(view, selecting, () => toVerify(view, keyVersion, now()));
      const expected = await computeMac(selected, message);
      ledger.count(selected, grant.principal, 'process');
      try {
        return { used: selected.used, valid: equalBytes(expected.reveal(), mac) };
      } finally {
        wipe(expected);
      }
    },

    async random(_grant, bytes) {
      if (!Number.isInteger(bytes) || bytes < 1 || bytes > MAX_RANDOM_BYTES) {
        throw new TwofoldError('invalid_value', `bytes is 1 to ${String(MAX_RANDOM_BYTES)}.`);
      }
      return SecretBytes.own(await hsm.random(bytes));
    },
  };
}
