/**
 * Classical known answers: one per algorithm, from published documents. The self-test computes them
 * in the host; the probe of an HSM imports the same keys and compares the same bytes.
 */
import type { Curve, Hash, SigningCurve } from './suite.ts';

export function hexBytes(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex, 'hex'));
}

export interface EcdhAnswer {
  readonly curve: Curve;
  /** Big-endian scalar, or X25519's 32 bytes. Published: worthless as a key. */
  readonly privateKey: Uint8Array;
  readonly peerPublicKey: Uint8Array;
  readonly secret: Uint8Array;
}

export interface EcdsaAnswer {
  readonly curve: Exclude<SigningCurve, 'P-521'>;
  readonly hash: Hash;
  readonly privateKey: Uint8Array;
  readonly publicKey: Uint8Array;
  readonly message: Uint8Array;
  /** r ‖ s. */
  readonly signature: Uint8Array;
}

export interface AeadAnswer {
  readonly key: Uint8Array;
  readonly nonce: Uint8Array;
  readonly associatedData: Uint8Array;
  readonly plaintext: Uint8Array;
  /** With the tag at its end. */
  readonly ciphertext: Uint8Array;
}

export interface HmacAnswer {
  readonly hash: Hash;
  readonly key: Uint8Array;
  readonly message: Uint8Array;
  readonly mac: Uint8Array;
}

/** RFC 5903 sections 8.1 and 8.2; RFC 7748 section 5.2. */
export const ECDH_ANSWERS: readonly EcdhAnswer[] = [
  {
    curve: 'P-256',
    privateKey: hexBytes('c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433'),
    peerPublicKey: hexBytes(
      '04' +
        'd12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf63' +
        '56fbf3ca366cc23e8157854c13c58d6aac23f046ada30f8353e74f33039872ab',
    ),
    secret: hexBytes('d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de'),
  },
  {
    curve: 'P-384',
    privateKey: hexBytes(
      '099f3c7034d4a2c699884d73a375a67f7624ef7c6b3c0f160647b67414dce655e35b538041e649ee3faef896783ab194',
    ),
    peerPublicKey: hexBytes(
      '04' +
        'e558dbef53eecde3d3fccfc1aea08a89a987475d12fd950d83cfa41732bc509d0d1ac43a0336def96fda41d0774a3571' +
        'dcfbec7aacf3196472169e838430367f66eebe3c6e70c416dd5f0c68759dd1fff83fa40142209dff5eaad96db9e6386c',
    ),
    secret: hexBytes(
      '11187331c279962d93d604243fd592cb9d0a926f422e47187521287e7156c5c4d603135569b9e9d09cf5d4a270f59746',
    ),
  },
  {
    curve: 'X25519',
    privateKey: hexBytes('a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4'),
    peerPublicKey: hexBytes('e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c'),
    secret: hexBytes('c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552'),
  },
];

/** RFC 6979 sections A.2.5 and A.2.6, message "sample". */
export const ECDSA_ANSWERS: readonly EcdsaAnswer[] = [
  {
    curve: 'P-256',
    hash: 'SHA-256',
    privateKey: hexBytes('c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721'),
    publicKey: hexBytes(
      '04' +
        '60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6' +
        '7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299',
    ),
    message: hexBytes('73616d706c65'),
    signature: hexBytes(
      'efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716' +
        'f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8',
    ),
  },
  {
    curve: 'P-384',
    hash: 'SHA-384',
    privateKey: hexBytes(
      '6b9d3dad2e1b8c1c05b19875b6659f4de23c3b667bf297ba9aa47740787137d896d5724e4c70a825f872c9ea60d2edf5',
    ),
    publicKey: hexBytes(
      '04' +
        'ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64def8f0ea9055866064a254515480bc13' +
        '8015d9b72d7d57244ea8ef9ac0c621896708a59367f9dfb9f54ca84b3f1c9db1288b231c3ae0d4fe7344fd2533264720',
    ),
    message: hexBytes('73616d706c65'),
    signature: hexBytes(
      '94edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad133c81a648152e44acf96e36dd1e80fabe46' +
        '99ef4aeb15f178cea1fe40db2603138f130e740a19624526203b6351d0a3a94fa329c145786e679e7b82c71a38628ac8',
    ),
  },
];

/** McGrew and Viega, "The Galois/Counter Mode of Operation", test case 16. */
export const AES_256_GCM_ANSWER: AeadAnswer = {
  key: hexBytes('feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308'),
  nonce: hexBytes('cafebabefacedbaddecaf888'),
  associatedData: hexBytes('feedfacedeadbeeffeedfacedeadbeefabaddad2'),
  plaintext: hexBytes(
    'd9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72' +
      '1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39',
  ),
  ciphertext: hexBytes(
    '522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa' +
      '8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662' +
      '76fc6ece0f4e1768cddf8853bb2d551b',
  ),
};

/** RFC 4868 section 2.7.1, PRF-1 with a 32-byte key. */
export const HMAC_SHA256_ANSWER: HmacAnswer = {
  hash: 'SHA-256',
  key: new Uint8Array(32).fill(0x0b),
  message: hexBytes('4869205468657265'),
  mac: hexBytes('198a607eb44bfbc69903a0f1cf2bbdc5ba0aa3f3d9ae3c1c7a3b1696a0b68cf7'),
};
