/**
 * Known answers of the signature parameter sets, one published key each. ML-DSA: the ML-DSA half of
 * the `sWithContext` vectors of draft-ietf-lamps-pq-composite-sigs (message is their M', context
 * their label). SLH-DSA: the first vector of each group of NIST's ACVP SLH-DSA-keyGen-FIPS205.
 * Falcon: count 0 of the round-3 known answers, padded to the length of the degree. Long public keys
 * stand as their SHA3-256.
 */
import { createHash } from 'node:crypto';

import { SIGNATURE_LENGTHS } from './engine.ts';
import { hexBytes } from './known-answers-classical.ts';
import { COMPOSITE_ANSWERS } from './known-answers-pq.ts';
import type {
  FalconParameterSet,
  MlDsaParameterSet,
  SignatureParameterSet,
  SlhDsaParameterSet,
} from './engine.ts';

function base64Bytes(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, 'base64'));
}

function sha3(bytes: Uint8Array): Uint8Array {
  return createHash('sha3-256').update(bytes).digest();
}

/** A signature that verifies. */
export interface KnownSignature {
  readonly message: Uint8Array;
  readonly context: Uint8Array;
  readonly signature: Uint8Array;
}

export interface SignatureAnswer {
  readonly set: SignatureParameterSet;
  readonly seed: Uint8Array;
  readonly publicKeySha3: Uint8Array;
  /** Null where it would be long (SLH-DSA): there the other implementation verifies a fresh one. */
  readonly known: KnownSignature | null;
}

const ascii = (text: string) => new TextEncoder().encode(text);

/** PREFIX ‖ label ‖ length ‖ context ‖ PH(M), in hex. */
const representative = (label: string, digest: string) =>
  Buffer.from(`CompositeAlgorithmSignatures2025${label}`).toString('hex') + CONTEXT + digest;

/** The length and the bytes of the vectors' context. */
const CONTEXT =
  '47546865206c65746861726769632c20636f6c6f726c65737320646f67207361742062656e656174682074' +
  '686520656e657267657469632c2073746174696f6e61727920666f782e';
/** PH(M) of the vectors' message. */
const SHA256 = 'ef537f25c895bfa782526529a9b63d97aa631564d5d789c2b765448c8635fb6c';
const SHA512 =
  '91ea1245f20d46ae9a037a989f54f1f790f0a47607eeb8a14d12890cea77a1bb' +
  'c6c7ed9cf205e67b7f2b8fd4c7dfd3a7a8617e45f3c463d481c7e586c39ac1ed';

const ML_DSA_44 = 'COMPSIG-MLDSA44-ECDSA-P256-SHA256';
const ML_DSA_65 = 'COMPSIG-MLDSA65-ECDSA-P256-SHA512';
const ML_DSA_87 = 'COMPSIG-MLDSA87-ECDSA-P384-SHA512';

/** The composite's answer has the same key, and the ML-DSA signature as its first part. */
function ofComposite(set: MlDsaParameterSet, context: string, message: string): SignatureAnswer {
  const composite = COMPOSITE_ANSWERS.find((answer) => answer.set === set);
  if (composite === undefined) throw new TypeError(`no composite answer has ${set}`);
  const { seed, publicKeySha3 } = composite;
  const signature = composite.signature.subarray(0, SIGNATURE_LENGTHS[set].signature);
  const known = { message: hexBytes(message), context: ascii(context), signature };
  return { set, seed, publicKeySha3, known };
}

const ML_DSA: readonly SignatureAnswer[] = [
  {
    set: 'ML-DSA-44',
    seed: hexBytes('c73679c3fe307c7aa1ea2fbd47e401434005b2d35a5a2734cf641ea2a9cbdec5'),
    publicKeySha3: hexBytes('cc35023ecd672817de2d98af095f651516e2613559743773256f4a2d98014287'),
    known: {
      message: hexBytes(representative(ML_DSA_44, SHA256)),
      context: ascii(ML_DSA_44),
      signature: base64Bytes(
        'VZY7tTr09GB3Z7DoxaEJfFLA/EwnF89U6WOU+uNG5l1ONiNs1eFTEU+8toFaixFh6uyb8dCNsnBPN7HOSoIxAq' +
          '7W12LVoRJZLIGVsneKuJFbiT3ppIR5OOLjJIYVulkPfZVpqPrYIZCR1dk5r754mhP/I+7jsNSMNjMae5iNKxQE' +
          'EINwLn29UHCrDk9IfiWZGJyCsGawTpce8E4zj6x3/JWAnXhPygflpwIPkI/BDLY9JsBNTlNdJFJ2GnCYI96mWl' +
          '+PnXkXgYDXuqlYRAxUbi6Q/msqzFjKsZVhi+q+hSzOnoa/jPJhntjP6Zrj4yRxPErc2TgkYW8ny0aIz0r+D4gl' +
          'szIG5SJFz3PoiFY12cMkjDBLxg5rBvLAag8yA3LMVqTxeYm4xmmfo9Z7U83o7XJpei2fwYEGM4VenuBPZ6V72p' +
          'n8WMhdnUd/aG03nw0UbhGrTEFnMhYax8mL1isKvmWKaw0EQbp0s7GYL2GNAxDoT1xaCrhZh7hcMj6cM6IalIlu' +
          'oja3720q32xeUeAnupmHqViAMv4DJkalinHV4TP6oxu/iBnBWEoEciwwl+vuQic9qwrm8IzK3i/GHhKD1LSWKT' +
          'xPMALqtdR1L27ttgtsB8qs6pF4voXP7WcCexDLzoXaykf9z5/H9XtSPtOX0/r9lHLI1xsEb37CbhpdYVJFuHoR' +
          'Uk9x2G+GUFt+wwrM4L1YOfpa/xY70G/j8eo/M7h+laWzf3pakguj7yolZwyDGw6smQOXOAUPNBkiTl9WdtKwGe' +
          'yivOra/tFonxIK5okhhUNNO0i268RgtGlk9aejxV2AmaVD6UIWPyRg2LbhI4pbuKO3+PN+o+YNuqDK+CNZJVnT' +
          'H2maclWAjUKgl7VfgXpF8cxAoHbyLzVdwYpxfgGTxDRmxz7wNeDnJM1t6QD7k1fOXCQ9MSFSbTZyzghCX58chz' +
          'cJbvZDwbYfevXV6dygpX3j8JzX4jtL4TpUamgLxx+gjDdceWIPW1lqHi4YM7p+Mt76ElW9+bgGBfo4SV+EWOWU' +
          'uW3htGOD5KMi3r+aRPDxHqu/0G2WosE4806TSfQk8Nd/p7FVv81kk/adFUYFfadZF0EkZlhmDVCIurEz6cyQCR' +
          'ziZwvW+1kHYrGJvcO8AUxpxyW1G5P2qudSTPRc17SMv2lXmJ9gqev/qBdIDLWIXpPmRfYY1zUjzyb1Z4ow6PbV' +
          'vmn4lvtUtQn7okpfuqJWioV+7cTF8wagZK036r+pNbxib637olkxqSljd007qd40n8RRanex2q3NP+htxNOEgr' +
          'IDfvpqV3S229r4/tuFT1UgzhmhB6tOomhlkoHZFGu1DPK75szOFKro+yw11bK97etG+0U9DL5I9MAzbaO/qjZp' +
          'EGNVvD5NM4avnNHaAMrawSLPmHf1/RVpf69ORiiz4a0SJZLItnyRgbxhID9aBssZh4swbnuesE0Iewvxs5JssS' +
          'GBJskSL6QTFzahnZEMISFd8uvGcpE6pvpv75PJ3NekP0MxHRMK2mx18HGWj6eOb9fk5NXwvo54KPVFvbUZJ6le' +
          'NhPVbK0plz79iUtLhLAsNMwBfHzroeqQYkQns/VabAvI2sC8PkWjedyysC2ytdzBWGpGtZQOvZvSAapS1pSyAL' +
          'IecsizEGAdx/raHtdtWehnULOiAkGKHmxkB71lfO2+vNOPoVmut33vHyEKG4dw2YaRjxLBr/cOgPufl1xowNr/' +
          'rjG6C6upntIYyWXhScWU64Gv4wNFEaCSNQe901fMY0ZS8Jbwf5gfLZzypMapvsmHGKVcqjN1B8ng6mtPaJsW22' +
          'qHbQ0qQuvL776jLGYK8kPMrMc8ba6Iu4JQ9BPCu5vmLUVICqLD6qHY3bG5ecBoAPhEdX09ENFXJZlflvVMh9IY' +
          '/R5wNM8IHHwxRqCfYSTfX/s5V+zb3BsKtkLfC82np4PG5O0zcArFLzfCGlUg50k1anj8jiTo8aB+wSMBUSjYHK' +
          'Hlw3zQQz7NqCawKV7RNjygruJwpXYgI4z4lHrSicoxqNfg+0LCDg04GETK9UbB3HV4OmcAdwAO1RGxsoFj4PaF' +
          '5+HLzfPO0qnPmIxdLf69qO7GBgO9Cm/AqUxDSDzIMUCRpMIVlHWIPyp7+whYuTIEg5oZhvRUQbaTPOOGoTEDIF' +
          'ttOt0QToYRiEgRFRN8mptoLwPOCfE6eq69ubwLRBlbTb+1qUPCY2vR8DHzKbHmtOshCCY+NgMWIIPYFLewKkDV' +
          'xSI4xHz0MMOWJ049N8l7KX+OXmqTeYgAeT5GM1B1GVLmt17d/eiH0JIS4PjJUJZs5VpQShvyAJwjYf08MpXqmQ' +
          'sulT3opG5lRfhQ1Nb1p0V+fqGfs2WEVPXVkCaYPGLUGD40MaGSSM7ED/bdZqzVA9xppEJB1E7iHS/tTzkXL7aX' +
          'gRbD2xEP1N5val0zrXdnvTnVNryrFPytNAKaI3D7PXbI+VuYk09USG7HKeabrmZ5VxWggWpJnTM6Ty/cYB0MDO' +
          'kS8NFRrVtbBOVPC5EN5Cs6c9MzKwwWmzJYxEnhUcTTHVWU8BpKwtLjebah88Rh2NfiBi4y7hczzrz61/vHnNES' +
          'qqHOUv30zu3sZyacEfZ5YFU0bPJxKj8e4jysiGxvvLNb1oiLDsxnk+o45OF89TqeuYVKL7frUumjooDf8GiDK3' +
          'lzhi2KVVwEGfJ6KNvGdvy1uLTipSBPWNASWE1Vv2n1w6SBbJkGXb0m/yxovOhQ1uYa8+zrVrZ6CW6WQtsOG5f5' +
          '/K8Ut4xEKAaQJyKeYBFt35x/Yzdp+ByRfLscOXPnFVqV2/+HBScW5gBVCeofzyv2UReiD00wV8QeD2ZXu/hV7k' +
          'IfNVJJma8KtP2JT1XVSeyW2LS07ohYsBIISS1R4v+MDmfP/MHasqXI38zZs1qZGrziFokX1BGAKdvxRO+Qr39a' +
          'KE3/CzpXqnwUCTHwb/hAiVORoxL54DefUV58IiQC60+x1JKu4/PO1h+iDZrPS/E80iCMnrUt9CJpzRZp7FrQQ8' +
          'W3W+OF9qw/WogUArniCnnVfvi3c50IKjyT7yT7THrxXBFAUjanIJLaundA/vkEDbn+/F8SFXr04BzIWblwz7S2' +
          '5fHI2yWzu0dIgwk7PgwDBg8qLDI1NmN+laevsvHyAgYHCBBJTFJWYWZreYKMnsfP0O8iJTZJXmpucHWBrgABBg' +
          'gbHChPbXR3e5SWnqfK0eT3AAAAAAAAAAAAAAAAABAkL0M=',
      ),
    },
  },
  ofComposite('ML-DSA-65', ML_DSA_65, representative(ML_DSA_65, SHA512)),
  ofComposite('ML-DSA-87', ML_DSA_87, representative(ML_DSA_87, SHA512)),
];

const SLH_DSA: readonly SignatureAnswer[] = [
  slhDsa(
    'SLH-DSA-SHA2-128s',
    '173d04c938c1c36bf289c3c022d04b1463ae23c41aa546da589774ac20b745c40d794777914c99766827f0' +
      'f09ca972be',
    '0162c10219d422adba1359e6aa65299c',
  ),
  slhDsa(
    'SLH-DSA-SHAKE-128s',
    'c151951f3811029239b74add24c506afdd30363e156e6fe936ec6ed0231feb5c529ffe86200d1f32c2b60d' +
      '0cd909f190',
    '0761f9b727afa724b47223016bb5b2ba',
  ),
  slhDsa(
    'SLH-DSA-SHA2-128f',
    'c42bcb3b5a6f331f5cce899253c6d9e29ff2b7ead7a04bab1794db8cc659c3b4a868f1bd5debc12d4c9fad' +
      '66aabd0a94',
    'b546df247be4c457f3d467cdfcfabd39',
  ),
  slhDsa(
    'SLH-DSA-SHAKE-128f',
    '3956ab391b4d22fc907af0740326d061ab0eb206436f2b86ebe086d77739b3e456505c229f4e7fa6b20171' +
      '4c7dcc9da3',
    '66578f1f24c3fe371c97c14ce0e79cdc',
  ),
  slhDsa(
    'SLH-DSA-SHA2-192s',
    '040266529c1864088925506c20a624a2b6d50cd77c1c6f0d2841150ae8157512ef34a343ffea77ff7d9e81' +
      '4b45a8b41464462665f4202886206a8f632267186ca6a1cad08a2b9a86',
    '2c6a7bc4ac4aaa84accef60d529f0311274f205e8da642c9',
  ),
  slhDsa(
    'SLH-DSA-SHAKE-192s',
    '8732621860e9a6e1887be55f7af692b98eb4c10b2599f94ad5cc9d6470d8b21136158e8b1710f1fbe03ece' +
      'd37ed4ac6853fc64d46d7e1653ebbb36ed5fbc12c6e7cef3cb756482c8',
    'c620452e864e8497e1b38a7b04449219acd9e4393f9c88ef',
  ),
  slhDsa(
    'SLH-DSA-SHA2-192f',
    'a021b4b9d6dee168722bc10225e50a946642af630c3c7c7d69e3a40ba09df2ac165b792a07f064ac5fc28d' +
      '8c99a580f4ee4823d09e79854706daa80ae3179b5bc8c2e9409d6328a3',
    '3577fd584bc0784c559cdb2437a46f7f753c336369419acf',
  ),
  slhDsa(
    'SLH-DSA-SHAKE-192f',
    'fb7a2c2c75ce6c96b5f4328e0ab300476fc6f864cb5b0b99990ecb726ca822a4e3652dd92ec0aab7637ea4' +
      '1c0482ae2868dcc671e3534f81a352c275b6a25f906d2ed0ff62b8b4e3',
    '98f1a9876cb082a48e9ae2c862b289486a3925cefc6ff4be',
  ),
  slhDsa(
    'SLH-DSA-SHA2-256s',
    'fcbf36a9807b30697be063a5105e091b412a391dd39e1326eba23cbd4096ca77ef4121c08dd71be913572f' +
      '1f91e57d0acbcd5cec28539ac275832bbaa6c11081a0b4f5549ebcadb951dc2e512c76b0620d8fb8100b4e' +
      'e886ef8784780d52a254',
    '3e57ab494d47068ffee4b8244aad6f19cdf94a2172bd134a15a6b5f298d5a80e',
  ),
  slhDsa(
    'SLH-DSA-SHAKE-256s',
    'e440e39644a11a6a58e850c09c8f03c273e465237f3bef7c58de62281e676cea99c199c00db30f8499a61b' +
      '5b9dc8a361725f6ae80e97037176f408c30b38844dd7b5e755b4879fde3288a21af3e32fbb006fd9b8bc2b' +
      '180eb9b0d82c9f3157af',
    '02acd6b3198ee1c9fe9afe61fd86d1e0877ad9061980b57b178ce27191d8eb1b',
  ),
  slhDsa(
    'SLH-DSA-SHA2-256f',
    '18523702a0fe2c9e488948b127185bab93d3f02c3d7c23a1b379f762de0509e56ab0d9f93540bd809d1d2e' +
      '8a050440aa81e853750470e2b00c959dbd3be40e2bd7125f5d00ba47f1fc8d4c32c2f57c444bd384d7ce77' +
      '0bc50dd5980c1d1264d0',
    '0ad5197ffcbaafe11b1e413f26adb1504ce1c3f5c40c1dcda14e99fd126d5b81',
  ),
  slhDsa(
    'SLH-DSA-SHAKE-256f',
    '2ac9403858d186b172edd8df9c78a11449893681487d3af0dad0ec341e8aca48afa2771bae6c17dd6f77b4' +
      'e3808b05f56f31b8f4128df2ccb677f0283cfb18da559bc883105e8ba0264648b532626155f87edb4bedcf' +
      'c12a24204d3b696d5370',
    '7a158ff5d30e3428183a3b3a96a0e4a341a2a16e5a6226af374d1efb39a35df6',
  ),
];

/** The public key is PK.seed, the last third of the seed, before PK.root. */
function slhDsa(set: SlhDsaParameterSet, seed: string, root: string): SignatureAnswer {
  const publicKey = hexBytes(seed.slice(-root.length) + root);
  return { set, seed: hexBytes(seed), publicKeySha3: sha3(publicKey), known: null };
}

/** The 48 bytes that NIST's generator gives for the seed of count 0, the same for both degrees. */
const FALCON_SEED =
  '7c9935a0b07694aa0c6d10e4db6b1add2fd81a25ccb148032dcd739936737f2d' +
  'b505d7cfad1b497499323c8686325e47';
const FALCON_MESSAGE = 'd81c4d8d734fcbfbeade3d3f8a039faa2a2c9957e835ad55b22e75bf57bb556ac8';

const FALCON: readonly SignatureAnswer[] = [
  falcon(
    'Falcon-512',
    'b208d89fdbca844b8095cdbadc766e6335474ec3d8e9c7c55d464139ac2ca66b',
    'OTOzwHUH5CAXSElNgytu4qbJO/+bDuNDtVDR+Fo9DeDXBMbReEKVEwkHZYQ9HkYNF6Un0rykBb1Vu8faCajGIL' +
      '4K9Kdn2duWuA9V5GZnZ1Hqq6e5O4bXETLaoOs3Z4K57uN1Gc4Q/dM/6fKTEsMdhzYgbRZc9MUoqj3cAXhF4fDd' +
      'WwpE/5YcQth0qVUz5bQ4mC9STKlU2HUzv75Cxj/yq8d6NMedtVqZFxu8tyyEKmUwry91Pww0rGMvnx55SfC/bG' +
      'dmWydyKohX1ia2/xoTbZI6OfQGm3R3/5RuUkemYneR1JtZ7cniUlqGDm6YKNGPZKnxciLoFmoCRThZu9oLgYbY' +
      'yZKLtXHkFGQB10MOIlkEZzrSHMrFTBRsJIod1pq2SR6QHW1xsVIVW+l94FfzkWo/G0JzMIwpsvTZaXFnuQaBsV' +
      'g+2TCnHpkEZ96jaBNL7O69WX+b7JIugW8bBXDXKPSuBGTB95dlf4ek5S3NyuuScmYupm18bNh4GzGvVVrZP19l' +
      '51gWy43DBrtn5ZK1Jhusp8UJYp6ir4q7gMuonuU1t239nMu+O/SPK8iqNLJuEQMpEFP1y43jpFr6WnbfiyEi7S' +
      'yC+88iWSkNQaFPhrEvNfXUl2KzTP8T7n5C7exwIB1/N8MzFiiPoweONuWBCIZcPP4mPVY2kgQ97MYvNCb4YGEo' +
      'W3sbM29W/0G7ZenNbZuS/ZD4ZKockjy4x1X1zeF3DYYllUJxSddyGqq10ZSuqazeyhW+Q8umpitaM5Cen8TaHF' +
      'gU+9fNai+lcuMYtCxsMZFAuG5mOSWAoRorQx9EwfknDk97JJDzsyWpl3pxpXWRVjZjW5lp29bSILJMPZnOu72D' +
      'S4giK9CMOr4SToAAAAAAAAAAAAAA',
  ),
  falcon(
    'Falcon-1024',
    'ea49c7835cab62ef55ff4060328243067166883cf85983a269de37a3a30bcdab',
    'OjOzwHUH5CAXSElNgytu4qbJO/+bDuNDtVDR+Fo9DeDXBMbReEKVEwm0mlshaWyJVGPq3Gi+Eyk+8rs2No0fkW' +
      '7dbe3dF+1/JwYeYeVKkZKNNNj922WvQizTbCyRLFGRnSeNOcNZbcYZR0AyEKnrl0Vps1q+0ZSImESjZwXn5z+X' +
      'n55v+7LiEb9SQqmjHibVARvC1skZ7jSuBIysmu1NJmFoj0JtFn8bbGCIdhWMlqVTi85+ekaqqQoowc2kGM6P0l' +
      '5qLDSP3iWEGZ93NVxN79ukob307Lna9jJSfmKXGN3LcXNICgVDNZzu6OQPmRkSKFm4iaYKPr6RJ2FJC4pe+VLq' +
      'CTJSrPKpAoLpYYbdzSg8i2Y5ymZZAlmBJnIOONHZqeIgJtAuZCIWl0C1dXRpHS80n0bloGLyrw17XzZvcLleKy' +
      'FSeyURfkSG15wgpQigKVlK4QZDqNfNbGDLyZiDbo1KhQ81jv2kxOkC73yn1MS6nkT21a/XitqRD1GEmpj2y08C' +
      'UQy6s9FXNlb9FQmE3BTpsz+/2v5MOaWLw7/Zr36Ppt30fF657F78mbrZ5fIIa2xZOz4knW1jqIaBbjP2aR5jHO' +
      'JTy8qszq3K/m+nOtnoTYnHIZlEjqLQkrSuMYbP7UrnY0UIUbFOtEjJEDRovVCkLlZpInSq3NESSVQUcT53ydPl' +
      'ECkN0T2Mbznr1vEqxLYc2BQdBGfujSq+W3BsqxrH5Zi8VvzkRbbeekzzKaStLmqmf9HJ9LvP/G+Jj+VtzPxD4t' +
      'AnmsfMhy8ZYf6Gt2pKgpe08pbdCkJYt5tHs1/O2vLiQRtsASCipHkWskEh49MhxP0hLlTKry2qTnQ9E77Edp60' +
      'ia2C/KVs3iRJyR271NjNJ2idL3dbJikUKeeeHfTzhalPr9g0yLUjhQv3t3BULW4hrzvCiGRcOd/by4Vnmy4zYI' +
      'FtXsJG5tAMo5ZfSvzuipPN2DNTEn3hk3b4ZJBUKjJZVMkhjPzcPj+c40Q737PKyKos2/6XZjhHjShMWtZ6uzuF' +
      'f5lLdkjPqa37YwXZSlFmWpiaafLfakYE/9WklkbCLankasiA/9G3WHzZqJa64sqmaqn7JGZWMa57SMaxzQLPxL' +
      'HydPAHRSGbd1ibFlyFGBNb7aPteTHeejWM+zIwdiuCf+UlhxVIgjgzi0o/GHDM51lUnMVKdDZQk2+w9FjiDfvo' +
      'mipdZ8UgaZ0+StbizhcIxJEJ1nHZmaUzd5iuXeUwM5VrmCQwWJ3O8w+tmGGPVyl26kFmzCrcCxb2VRxqXDeDC+' +
      'mCFeqKLpclPilWcR1N4T+v0UGEO7woqNRLy/1SPZqmQFWI7AnOQ1poRN8Lgmi0OQe1eLYfTExlYqG1bpobdNPR' +
      'dSmBK5T0nZi0LdNLnw6ccSUTfTy9MmyjU4UxP1GW7caXubsgSuQpjd+fKGGz9EX+xqj7aows/HEReLmGTzIOTh' +
      'CJZO0ctu6Urvci+q42povEvaMEOVFXlPiBo5e9eCpUMiGNJTEmLsa1YQ3j1WtH3l/KgsElGmZiIc10e/kNHlf7' +
      'rkkg3eppqEMgvbnLMl/jqxL5fZAwhQcOn8KgVInzNsQzz5cNk3I1FS7KiVSO5VGvj0IZSMJWHwfz7ea8udtKrB' +
      'UUiGK7Zln216FUOPOYgSSPK8etOXgBuJRG9s3dYv5WaWx8vGRz6VqNA8Vz4AAAAAAAAAAAAAA=',
  ),
];

function falcon(set: FalconParameterSet, publicKeySha3: string, signature: string) {
  return {
    set,
    seed: hexBytes(FALCON_SEED),
    publicKeySha3: hexBytes(publicKeySha3),
    known: {
      message: hexBytes(FALCON_MESSAGE),
      context: new Uint8Array(0),
      signature: base64Bytes(signature),
    },
  };
}

export const SIGNATURE_ANSWERS: ReadonlyMap<SignatureParameterSet, SignatureAnswer> = new Map(
  [...ML_DSA, ...SLH_DSA, ...FALCON].map((answer) => [answer.set, answer]),
);
