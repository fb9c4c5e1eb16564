/**
 * What a token does alone: synchronous calls on one session of one process, without queue, threads
 * or messages. The yardstick for the benchmark; run it in a process that has no other connection.
 */
import { createECDH } from 'node:crypto';
import { makePair, makeSecret, meanOf } from './conformance-speed.ts';
import { Connection } from './connection.ts';
import { gcmDecryptInto, gcmEncrypt, gcmEncryptInto } from './mechanisms.ts';
import { hmac, random, rawEcdh, sign } from './mechanisms.ts';
import { GCM } from './inputs.ts';
import { exportSofthsmConf, loadAlone } from './module.ts';
import { readPin } from './pin.ts';
import type { TokenSelector } from './protocol.ts';

const SIGNS_256 = { kind: 'ec', curve: 'P-256', use: 'sign' } as const;
const SIGNS_384 = { kind: 'ec', curve: 'P-384', use: 'sign' } as const;
const TO_BE_WRAPPED = { kind: 'to-be-wrapped', trusted: false } as const;

export interface RawTokenOptions {
  readonly module: string;
  readonly tokenSelector: TokenSelector;
  readonly pinFile: string;
  readonly env?: { readonly SOFTHSM2_CONF: string };
  /** For each operation. */
  readonly milliseconds: number;
}

export interface RawRate {
  readonly operation: string;
  readonly perSecond: number;
  readonly microseconds: number;
}

export interface RawToken {
  readonly rates: readonly RawRate[];
  /** Resident memory that one derived and destroyed object costs for ever. */
  readonly leakedBytesPerObject: number;
}

/** Rates of the calls that the service makes, in the order derive, sign, seal, open, mac, random. */
export async function measureRawToken(options: RawTokenOptions): Promise<RawToken> {
  if (options.env !== undefined) await exportSofthsmConf(options.env.SOFTHSM2_CONF);
  const cryptoki = loadAlone(options.module);
  try {
    const pin = await readPin(options.pinFile);
    const request = { op: 'open', tokenEpoch: 1, pin } as const;
    const connection = Connection.open(cryptoki, options.tokenSelector, request);
    return measure(connection, options.milliseconds);
  } finally {
    cryptoki.C_Finalize();
  }
}

function measure(connection: Connection, milliseconds: number): RawToken {
  const pairs = {
    derive256: makePair(connection, { kind: 'ec', curve: 'P-256', use: 'derive' }, TO_BE_WRAPPED),
    derive384: makePair(connection, { kind: 'ec', curve: 'P-384', use: 'derive' }, TO_BE_WRAPPED),
    sign256: makePair(connection, SIGNS_256, TO_BE_WRAPPED),
    sign384: makePair(connection, SIGNS_384, TO_BE_WRAPPED),
  };
  const aes = makeSecret(connection, { kind: 'aes', bits: 256 }, TO_BE_WRAPPED);
  const mac = makeSecret(connection, { kind: 'hmac', hash: 'SHA-256', bytes: 32 }, TO_BE_WRAPPED);
  const [peer256, peer384] = [peer('prime256v1'), peer('secp384r1')];
  const [digest32, digest48, data] = [
    Buffer.alloc(32, 1),
    Buffer.alloc(48, 1),
    Buffer.alloc(64, 2),
  ];
  const { iv, ciphertext } = gcmEncrypt(connection, aes, data, data);
  const sealed = { iv: Buffer.from(iv), ciphertext: Buffer.from(ciphertext) };
  const room = Buffer.alloc(sealed.ciphertext.length);
  const sealing = { plaintext: data, aad: data, room };
  // The first objects grow heaps that are used again; only what follows is lost.
  rate('warm-up', milliseconds, () => rawEcdh(connection, 'P-256', pairs.derive256, peer256));
  const before = process.memoryUsage.rss();
  const madeBefore = connection.objects;
  const derive = rate('ecdh:P-256', milliseconds, () =>
    rawEcdh(connection, 'P-256', pairs.derive256, peer256),
  );
  const made = connection.objects - madeBefore;
  const leakedBytesPerObject = made === 0 ? 0 : (process.memoryUsage.rss() - before) / made;
  const others: readonly (readonly [string, () => unknown])[] = [
    ['ecdh:P-384', () => rawEcdh(connection, 'P-384', pairs.derive384, peer384)],
    ['ecdsa:P-256', () => sign(connection, SIGNS_256, pairs.sign256, digest32)],
    ['ecdsa:P-384', () => sign(connection, SIGNS_384, pairs.sign384, digest48)],
    [
      'aes-gcm encrypt 64 B',
      () =>
        gcmEncryptInto(connection, aes, {
          iv: Buffer.from(random(connection, GCM.ivBytes)),
          ...sealing,
        }),
    ],
    ['aes-gcm decrypt 64 B', () => gcmDecryptInto(connection, aes, { ...sealed, aad: data, room })],
    ['hmac:SHA-256 64 B', () => hmac(connection, 'SHA-256', mac, data)],
    ['random 32 B', () => random(connection, 32)],
  ];
  const rates = [derive, ...others.map(([name, call]) => rate(name, milliseconds, call))];
  return { rates, leakedBytesPerObject };
}

function rate(operation: string, milliseconds: number, call: () => unknown): RawRate {
  const microseconds = meanOf(call, milliseconds);
  return {
    operation,
    perSecond: Math.round(1e6 / microseconds),
    microseconds: Math.round(microseconds),
  };
}

function peer(curve: string): Buffer {
  const ecdh = createECDH(curve);
  ecdh.generateKeys();
  return ecdh.getPublicKey();
}
