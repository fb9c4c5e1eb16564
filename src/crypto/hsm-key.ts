/** The keys that an HSM holds for a suite: part of a suite's row, and what the HSM port is asked for. */
export type HsmHash = 'SHA-256' | 'SHA-384' | 'SHA-512';
export type RsaBits = 2048 | 3072 | 4096;

/**
 * What a key is and the one thing that it is for.
 *
 * Raw public keys: P-curves as the uncompressed point (0x04 ‖ X ‖ Y, SEC1 2.3.3), X25519 and Ed25519 as
 * 32 bytes, RSA as the DER of RSAPublicKey (RFC 8017 appendix A.1.1), whose exponent is 65537.
 */
export type HsmKeySpec =
  | { readonly kind: 'ec'; readonly curve: 'P-256' | 'P-384'; readonly use: 'derive' }
  | { readonly kind: 'ec'; readonly curve: 'P-256' | 'P-384' | 'P-521'; readonly use: 'sign' }
  | { readonly kind: 'x25519'; readonly use: 'derive' }
  | { readonly kind: 'ed25519'; readonly use: 'sign' }
  | {
      readonly kind: 'rsa';
      readonly bits: RsaBits;
      readonly use: 'sign';
      /** RSASSA-PSS with MGF1 of the same hash and a salt as long as the hash, or RSASSA-PKCS1-v1_5. */
      readonly padding: 'pss' | 'pkcs1';
      readonly hash: HsmHash;
    }
  /** RSAES-OAEP with MGF1 of the same hash and an empty label. */
  | {
      readonly kind: 'rsa';
      readonly bits: RsaBits;
      readonly use: 'decrypt';
      readonly hash: 'SHA-256';
    }
  | { readonly kind: 'aes'; readonly bits: 256 }
  /** As long as the hash, a multiple of 8: SoftHSM pads what it wraps to 8 bytes before KWP. */
  | { readonly kind: 'hmac'; readonly hash: HsmHash; readonly bytes: 32 | 48 | 64 };

/** Bytes of a scalar: as long as a coordinate (SEC1 2.3.7). */
const SCALAR_LENGTHS = { 'P-256': 32, 'P-384': 48, 'P-521': 66 } as const;

/**
 * Bytes of the private or secret key itself: a scalar, the 32 of RFC 7748 or RFC 8032, or the secret.
 * Null for RSA, whose RSAPrivateKey differs by some bytes from key to key.
 */
export function privateKeyLength(spec: HsmKeySpec): number | null {
  switch (spec.kind) {
    case 'ec':
      return SCALAR_LENGTHS[spec.curve];
    case 'x25519':
    case 'ed25519':
      return 32;
    case 'rsa':
      return null;
    case 'aes':
      return spec.bits / 8;
    case 'hmac':
      return spec.bytes;
  }
}
