/**
 * Known answers of what the host computes for suites of one half: HKDF, and the verification of
 * classical signatures beside ECDSA on P-256 and P-384.
 */
import { rsaScheme, ecdsaScheme, ed25519Scheme } from './classical-signature.ts';
import { hexBytes } from './known-answers-classical.ts';
import type { ClassicalScheme } from './classical-signature.ts';
import type { Hash } from './suite.ts';

export interface VerificationAnswer {
  readonly algorithm: string;
  readonly scheme: ClassicalScheme;
  /** The composite of draft-ietf-lamps-pq-composite-sigs-19 whose vector without a context it is part of. */
  readonly suite: string;
  readonly publicKey: Uint8Array;
  /** M' of that vector. */
  readonly message: Uint8Array;
  readonly signature: Uint8Array;
}

export interface HkdfAnswer {
  readonly hash: Hash;
  readonly keyMaterial: Uint8Array;
  readonly salt: Uint8Array;
  readonly info: Uint8Array;
  readonly output: Uint8Array;
}

/** RFC 5869 appendix A.1; case 12 of Wycheproof's hkdf_sha384_test. */
export const HKDF_ANSWERS: readonly HkdfAnswer[] = [
  {
    hash: 'SHA-256',
    keyMaterial: new Uint8Array(22).fill(0x0b),
    salt: hexBytes('000102030405060708090a0b0c'),
    info: hexBytes('f0f1f2f3f4f5f6f7f8f9'),
    output: hexBytes(
      '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865',
    ),
  },
  {
    hash: 'SHA-384',
    keyMaterial: hexBytes('7a00817689a3d79001825a864c69c120'),
    salt: hexBytes('08bc01c053a6406c7c4a667c9b9b3894'),
    info: hexBytes('967ccd75395be6e96a67759f070487c9e2107791'),
    output: hexBytes(
      'bd02e16b6024f2c3b752d1c1d3047583697731915fbbb34418f479b0c9bf84a8' +
        '6bd8e715eca198da8f9b39b25a1229c311853f862340cdefe46ddf41dcf256d9',
    ),
  },
];

export const VERIFICATION_ANSWERS: readonly VerificationAnswer[] = [
  {
    algorithm: 'ECDSA-P-521',
    scheme: ecdsaScheme('P-521', 'SHA-512'),
    suite: 'MLDSA87-ECDSA-P521-SHA512',
    publicKey: hexBytes(
      '0400bd3bf6d2a36a0ec63b2d95ba42d7638cba1167fd1437186c0c92c8737c94683a62604aa5a73c7ddfb59ac2258f92' +
        '3d39b322184d6d856faaacefd0be473e8c223801846dfc74df3fbc1e81cd3c76785e1879c5821048e5b5db07fdffe407' +
        'e107e200b605a850fe1e2250600c87ce282f085523e770333da38228cb953b6a5fc5448499',
    ),
    message: hexBytes(
      '436f6d706f73697465416c676f726974686d5369676e61747572657332303235434f4d505349472d4d4c44534138372d' +
        '45434453412d503532312d5348413531320091ea1245f20d46ae9a037a989f54f1f790f0a47607eeb8a14d12890cea77' +
        'a1bbc6c7ed9cf205e67b7f2b8fd4c7dfd3a7a8617e45f3c463d481c7e586c39ac1ed',
    ),
    signature: hexBytes(
      '3081870241710e6ddf1a34daad4dd04826a0ec9ceb9aec0c6b869ddf65d0b979d4bfb0c711a32918447572802a10ca61' +
        '9ff9ae16de84e037e0231428e13c8a37c804cd6300ab02420145d39d0e280ca4db32d616f26de22f2ee427876448d617' +
        '7aeefee12ac19b354ad81c7d6982503d19cf1d581a46216e85d99146d4ae244c942329f5c5b02117349f',
    ),
  },
  {
    algorithm: 'Ed25519',
    scheme: ed25519Scheme,
    suite: 'MLDSA44-Ed25519-SHA512',
    publicKey: hexBytes('cc1046b2a778878182640aa23a258f9110950218a6d0b31e3ab4915568bade5a'),
    message: hexBytes(
      '436f6d706f73697465416c676f726974686d5369676e61747572657332303235434f4d505349472d4d4c44534134342d' +
        '456432353531392d5348413531320091ea1245f20d46ae9a037a989f54f1f790f0a47607eeb8a14d12890cea77a1bbc6' +
        'c7ed9cf205e67b7f2b8fd4c7dfd3a7a8617e45f3c463d481c7e586c39ac1ed',
    ),
    signature: hexBytes(
      '38a7a66954e1fda808213a91b1982c12e9d4946866f0c568425c14b04adca4a4d2879914e67260f46acffb70168ab02b' +
        'b253a87388b626aaa46c83c4d829940d',
    ),
  },
  {
    algorithm: 'RSASSA-PSS',
    scheme: rsaScheme(2048, 'pss', 'SHA-256'),
    suite: 'MLDSA44-RSA2048-PSS-SHA256',
    publicKey: hexBytes(
      '3082010a0282010100d458650ecd7aa9a1dc565d8a3f5a947e8cddfa3ed3c9e5618450e4f51cb4f539af633c18cffd9d' +
        '5a6025fd043c55df4fbabd37cf49e6f99dc553edbc1c5e80c82f493166985a07ed2585aa585182020712e42ff504832e' +
        '5fc6559f3339f0fa6f45bb8d7a0897795952749eac504f4a6ffb9ac708d2fdc6f7a9b84a3322aa5e7b4cfd6316e8d807' +
        '5a510d21f8df4a289213afda2d9d3809ddce40a0db1aca06a9afdac50261916c8fc9c6f81271e2060267ed60714ba868' +
        'bab1c3b4e4fb8d2caf6940c671f1caf5b84f536128fd3b084e2d8f77ec2a705ee1337b388f5292d2a28de3503858fdb1' +
        '8062b02d9f24accf1127d40629eaa5640b8ea55ca9abcb0f970203010001',
    ),
    message: hexBytes(
      '436f6d706f73697465416c676f726974686d5369676e61747572657332303235434f4d505349472d4d4c44534134342d' +
        '525341323034382d5053532d53484132353600ef537f25c895bfa782526529a9b63d97aa631564d5d789c2b765448c86' +
        '35fb6c',
    ),
    signature: hexBytes(
      '22261ae51ab4493f3da1ab68cc3746f004e438bdc2dccc8f79d10fc7888aa80ddff065af45bbd4e7c1a4215a9a7e9cba' +
        'bb9b89a54086e5a3dd471e42b547258cf2f47f7bfb67fdc89d52f0c8c126526d0a7919fd013caa336b929d78c6702749' +
        '0166c6a2c400d4086cb94403ca9ed0fec33f9a3a0d32ebbc65c06f6dae6fde7d5d5a13481b20539e5f4865e1554b7e1c' +
        '172c58ebee0064a29813efebd66d2192c34e5b369732faee9bdb6092258ee56f698fa28272c5a3994e6c9ea055158c66' +
        'f209fc22da63f0bc6a2f41b37849c0735163c7bedb15d78198d319d72eafcfec34dad0596a11799d6daa09e8fe0a68dc' +
        '195a18e04196afc24725957ba3ed7e4d',
    ),
  },
  {
    algorithm: 'RSASSA-PKCS1-v1_5',
    scheme: rsaScheme(2048, 'pkcs1', 'SHA-256'),
    suite: 'MLDSA44-RSA2048-PKCS15-SHA256',
    publicKey: hexBytes(
      '3082010a0282010100d36dbe90d91db27eb643531e032783f85b13135fad7b8a63c29dfb76fca2b32b3f3e69e7ccba50' +
        '14fa0c5d9fca83f341502f9baad1ba2e6a82dac32d537ba170b477fef75e6d07f05ea0e2fa288136dfb5225a2fcea672' +
        'f87a98fba23ad6ae5ade7953c29dd99909bfc52c97e905b906015de6991082facea5eec253d539feeb09ccdd36b81304' +
        'e70a63f4bf6bc9ed43a8763b4e99cc050f36811230780ff1286787ab181bcf7c0d8683fb9cdb170442875a156ba5dc79' +
        '20e634b749eecd44c0e35981d51997d89aaf0033c6e92b580e173d664c5a8762191c7953c96c3429b6ae3f6ac31cf9a8' +
        '84b5e9b1f40fb722b09afd0982fa6054d9306c40f5a0d31bd30203010001',
    ),
    message: hexBytes(
      '436f6d706f73697465416c676f726974686d5369676e61747572657332303235434f4d505349472d4d4c44534134342d' +
        '525341323034382d504b435331352d53484132353600ef537f25c895bfa782526529a9b63d97aa631564d5d789c2b765' +
        '448c8635fb6c',
    ),
    signature: hexBytes(
      'c8b207f28e331624fa599c6b6d0a9079371641d25538f3018492e6e0c600eca2b6d0eea679760b83a8e928889502dc84' +
        '868c3c4799115ab00c57753930f1424f1804ad39af69304122c08c2599d18ad8d062521c343471ec4c10fa0f9c3a2ca5' +
        'b8f637d15b69a25f41547a5c90800a26e579057eeb1369556362e5dfa4f2ee225dd6c781a7a231d9d34e7827b1e90e6f' +
        'bae0bcb6a4b2421eacb38e0c88b274b8b7a9131598158d6cc3e7ef539c441f46ae03b016229c6ccfacab06ace1d23b77' +
        'c0acea7f2847caf4734a6e5bb668c0c45ee2f70cb978a9fa2f3ef56eac6fe5fe4aeb11bc0ab2775cc477ad665a6ada32' +
        '7c5165560e3d53cb559e05beed367af4',
    ),
  },
];
