/** Parts of crypto answers and inputs that several routes share. */
import type { Used } from '../keyring/operations.ts';

/** What was used, as the answer shows it. */
export const usedMembers = ({ key, keyId, keyVersion, suite }: Used) => ({
  key,
  keyId,
  keyVersion,
  suite,
});

/** `keyVersion` where it was given: ports take absence, not undefined. */
export const givenVersion = ({ keyVersion }: { readonly keyVersion?: number | undefined }) =>
  keyVersion === undefined ? {} : { keyVersion };

const NOTHING = new Uint8Array(0);
export const orEmpty = (bytes: Uint8Array | undefined): Uint8Array => bytes ?? NOTHING;
