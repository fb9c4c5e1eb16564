/**
 * Steady use of two keys in every zone, each answer held against what is known: an unwrap gives the
 * plaintext, a good signature verifies and another does not, and an entry is in the log by its proof.
 */
import { setTimeout as sleep } from 'node:timers/promises';

import { parseVkeys } from '../../../src/audit/tree/vkey.ts';
import type { Vkey } from '../../../src/audit/tree/vkey.ts';
import { proofProblem } from '../../../src/main/audit-prove-command.ts';
import type { Loaded } from '../../e2e/ledger.ts';
import type { Answer } from '../../e2e/service.ts';

const WRAPS = 8;
const PAUSE_MS = 10;
const WRAP_PAUSE_MS = 50;
/** An answer within the grace has its entry in the database only after it, and the tree follows. */
const SETTLED_MS = 120_000;
/** Entries of which it remembers when they were answered. */
const MOST_RECENT = 50_000;

type Request = Loaded['request'];

interface Wrapped {
  readonly plaintext: string;
  readonly ciphertext: string;
}

interface Known {
  readonly ciphertexts: readonly Wrapped[];
  readonly good: { readonly message: string; readonly signature: string };
  readonly keyVersion: number;
}

const text = (what: string) => Buffer.from(what).toString('base64');

/** Makes both keys; there is no fault yet. */
export async function makeKnown(request: Request): Promise<Known> {
  const ask = async (path: string, body: object): Promise<Answer> => {
    const answer = await request('POST', path, body);
    if (answer.status >= 300) throw new Error(`${path}: ${answer.bytes.toString('utf8')}`);
    return answer;
  };
  await ask('/v1/admin/keys', { name: 'steady', suite: 'MLKEM768-P256' });
  await ask('/v1/admin/keys', { name: 'steady-signer', suite: 'MLDSA65-ECDSA-P256-SHA512' });
  const ciphertexts = [];
  for (let place = 0; place < WRAPS; place += 1) {
    const plaintext = text(`a data key ${String(place)}`);
    const { json } = await ask('/v1/keys/steady/wrap', { plaintext });
    ciphertexts.push({ plaintext, ciphertext: String(json['ciphertext']) });
  }
  const message = text('a message');
  const { json } = await ask('/v1/keys/steady-signer/sign', { message });
  const good = { message, signature: String(json['signature']) };
  return { ciphertexts, good, keyVersion: Number(json['keyVersion']) };
}

export class Uses {
  readonly #known: Known;
  readonly #ciphertexts: Wrapped[];
  readonly #random: () => number;
  readonly wrong: string[] = [];
  readonly counts = { opened: 0, verified: 0 };

  constructor(known: Known, random: () => number) {
    this.#known = known;
    this.#ciphertexts = [...known.ciphertexts];
    this.#random = random;
  }

  /** What a grace serves is what an instance has used before. */
  async begin(request: Request): Promise<void> {
    await this.#unwrap(request);
    await this.#verify(request);
  }

  /** Wraps, which no grace covers: how long commits stood still. What it made is unwrapped by `run`. */
  async runWraps(request: Request, isOver: () => boolean): Promise<void> {
    for (let turn = 0; !isOver(); turn += 1) {
      const plaintext = text(`a later data key ${String(turn)}`);
      try {
        const { status, json } = await request('POST', '/v1/keys/steady/wrap', { plaintext });
        const place = Math.floor(this.#random() * this.#ciphertexts.length);
        if (status === 200)
          this.#ciphertexts[place] = { plaintext, ciphertext: String(json['ciphertext']) };
      } catch {
        // As below.
      }
      await sleep(WRAP_PAUSE_MS);
    }
  }

  async run(request: Request, isOver: () => boolean): Promise<void> {
    for (let turn = 0; !isOver(); turn += 1) {
      try {
        await (turn % 4 === 3 ? this.#verify(request) : this.#unwrap(request));
      } catch {
        // The connection broke, which tells nothing; an undocumented answer is noted by `request`.
      }
      await sleep(PAUSE_MS);
    }
  }

  async #unwrap(request: Request): Promise<void> {
    const one = this.#ciphertexts[Math.floor(this.#random() * this.#ciphertexts.length)];
    if (one === undefined) return;
    const answer = await request('POST', '/v1/keys/steady/unwrap', { ciphertext: one.ciphertext });
    if (answer.status === 503) return;
    if (answer.status === 200 && answer.json['plaintext'] === one.plaintext)
      this.counts.opened += 1;
    else this.wrong.push(`unwrap: ${String(answer.status)} ${answer.bytes.toString('utf8')}`);
  }

  async #verify(request: Request): Promise<void> {
    const { good, keyVersion } = this.#known;
    const isGood = this.#random() < 0.5;
    const message = isGood ? good.message : text('another message');
    const body = { message, signature: good.signature, keyVersion };
    const answer = await request('POST', '/v1/keys/steady-signer/verify', body);
    if (answer.status === 503) return;
    if (answer.status === 200 && answer.json['valid'] === isGood) this.counts.verified += 1;
    else this.wrong.push(`verify: ${String(answer.status)} ${answer.bytes.toString('utf8')}`);
  }
}

/** Asks for the proofs of what was answered, and checks them by keys that were pinned before. */
export class Proofs {
  readonly #trusted: readonly Vkey[];
  readonly #random: () => number;
  readonly #recent: { readonly id: string; readonly at: number }[] = [];
  readonly wrong: string[] = [];
  readonly counts = { proofs: 0 };

  constructor(trust: string, random: () => number) {
    this.#trusted = parseVkeys(trust);
    this.#random = random;
  }

  answered(id: string): void {
    this.#recent.push({ id, at: performance.now() });
    if (this.#recent.length > MOST_RECENT) this.#recent.splice(0, MOST_RECENT / 2);
  }

  async run(requests: readonly Request[], isOver: () => boolean): Promise<void> {
    while (!isOver()) {
      const request = requests[Math.floor(this.#random() * requests.length)];
      const one = this.#recent[Math.floor(this.#random() * this.#recent.length)];
      if (request !== undefined && one !== undefined) {
        const isSettled = performance.now() - one.at > SETTLED_MS;
        await this.prove(request, one.id, isSettled).catch(() => undefined);
      }
      await sleep(PAUSE_MS);
    }
  }

  /** @param isSettled whether the entry has to be there by now */
  async prove(request: Request, id: string, isSettled: boolean): Promise<boolean> {
    const proof = await request('GET', `/v1/audit/entries/${id}/proof`);
    if (proof.status === 503) return false;
    const isYetToCome = [404, 409].includes(proof.status);
    if (isYetToCome && !isSettled) return false;
    if (proof.status !== 200) {
      this.wrong.push(`proof of ${id}: ${String(proof.status)} ${proof.bytes.toString('utf8')}`);
      return false;
    }
    const entry = await request('GET', `/v1/audit/entries/${id}`);
    if (entry.status !== 200) return false;
    const body = Buffer.from(String(entry.json['body']), 'base64');
    const claimed = { id, proof: proof.bytes.toString('utf8'), body };
    const why = proofProblem(claimed, this.#trusted);
    if (why === null) this.counts.proofs += 1;
    else this.wrong.push(`proof of ${id}: ${why}`);
    return why === null;
  }

  /** At the end every entry has its proof, within the time that the tree may take. */
  async proveAll(request: Request, ids: readonly string[]): Promise<void> {
    for (const id of ids) {
      const until = performance.now() + SETTLED_MS;
      while (!(await this.prove(request, id, false)) && this.wrong.length === 0) {
        if (performance.now() > until) {
          this.wrong.push(`proof of ${id}: none after two minutes`);
          return;
        }
        await sleep(500);
      }
    }
  }
}
