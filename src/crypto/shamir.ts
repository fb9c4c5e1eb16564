/**
 * Shamir's secret sharing over GF(256), byte by byte (Shamir 1979), with the field of FIPS 197.
 *
 * No table is indexed and no branch taken by a secret: a product is eight masked additions, an inverse
 * the power 254. A share is the value of the polynomial at its index; the secret is the value at 0.
 */
import { randomBytes } from 'node:crypto';

import { wipe } from './secret.ts';

/** x is a non-zero byte, so there are no more. */
export const MAX_SHARES = 255;

export interface Share {
  /** 1 to 255, which is x; public. */
  readonly index: number;
  /** As long as the secret; secret too. */
  readonly value: Uint8Array;
}

/** a · b modulo x^8 + x^4 + x^3 + x + 1, in constant time. */
export function multiply(a: number, b: number): number {
  let product = 0;
  let left = a;
  for (let bit = 0; bit < 8; bit += 1) {
    product ^= -((b >> bit) & 1) & left;
    left = ((left << 1) ^ (-(left >> 7) & 0x11b)) & 0xff;
  }
  return product;
}

/** a^254, which is 1/a, and 0 for 0. */
export function invert(a: number): number {
  let power = multiply(a, a);
  let result = power;
  for (let step = 0; step < 6; step += 1) {
    power = multiply(power, power);
    result = multiply(result, power);
  }
  return result;
}

function assertCounts(shares: number, threshold: number): void {
  const whole = Number.isInteger(shares) && Number.isInteger(threshold);
  if (!whole || threshold < 2 || threshold > shares || shares > MAX_SHARES) {
    throw new RangeError('of 2 to 255 shares, 2 at least and all at most make the secret');
  }
}

/**
 * @param random gives the coefficients: as many bytes as asked; anything but a generator only in tests
 * @returns `shares` shares, any `threshold` of which make the secret and fewer say nothing about it; the
 *   caller wipes their values, and the secret stays his
 * @throws RangeError for counts that make no sense
 */
export function split(
  secret: Uint8Array,
  { shares, threshold }: { readonly shares: number; readonly threshold: number },
  random: (bytes: number) => Uint8Array = randomBytes,
): Share[] {
  assertCounts(shares, threshold);
  const coefficients = Array.from({ length: threshold - 1 }, () => random(secret.length));
  try {
    return Array.from({ length: shares }, (_, at) => {
      const value = new Uint8Array(secret.length);
      for (let byte = 0; byte < secret.length; byte += 1) {
        // Horner's rule, from the highest coefficient down.
        let sum = 0;
        for (const each of coefficients) sum = multiply(sum ^ (each[byte] ?? 0), at + 1);
        value[byte] = sum ^ (secret[byte] ?? 0);
      }
      return { index: at + 1, value };
    });
  } finally {
    wipe(...coefficients);
  }
}

/**
 * The value at 0 of the polynomial through the shares: of exactly as many as the threshold says, the
 * secret. Nothing here can tell a wrong one. The caller wipes the result.
 * @throws RangeError for no shares, two of one index, or values of different lengths
 */
export function combine(shares: readonly Share[]): Uint8Array {
  const length = shares[0]?.value.length;
  const indexes = new Set(shares.map(({ index }) => index));
  if (length === undefined || indexes.size !== shares.length || indexes.has(0)) {
    throw new RangeError('shares have one index each, from 1 on');
  }
  if (shares.some(({ value }) => value.length !== length)) {
    throw new RangeError('shares of one secret are of one length');
  }
  const secret = new Uint8Array(length);
  for (const { index, value } of shares) {
    let weight = 1;
    for (const other of indexes) {
      if (other !== index) weight = multiply(weight, multiply(other, invert(other ^ index)));
    }
    for (let byte = 0; byte < length; byte += 1) {
      secret[byte] = (secret[byte] ?? 0) ^ multiply(weight, value[byte] ?? 0);
    }
  }
  return secret;
}
