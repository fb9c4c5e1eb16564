/**
 * P5 while everything breaks: after a suspension was acknowledged, no request that begins before its
 * end is asked for succeeds, in any zone.
 */
import { setTimeout as sleep } from 'node:timers/promises';

import type { Loaded } from '../../e2e/ledger.ts';
import type { Answer } from '../../e2e/service.ts';

const PLAINTEXT = Buffer.from('a data key of the key that is suspended').toString('base64');
/** At once, and so often while the suspension lasts. */
const [TRIES, WAVES, WAVE_MS] = [12, 3, 150];

type Purpose = 'wrap' | 'sign';

const SUITES: Readonly<Record<Purpose, string>> = {
  wrap: 'MLKEM768-P256',
  sign: 'MLDSA65-ECDSA-P256-SHA512',
};

interface Use {
  readonly operation: string;
  readonly body: object;
}

export class Suspensions {
  readonly #clients: readonly Pick<Loaded, 'request'>[];
  readonly #random: () => number;
  readonly #purpose: Purpose;
  readonly #key: string;
  /** What is tried under a suspension; empty before the key is there. */
  #uses: readonly Use[] = [];
  /** Suspensions that were acknowledged, and tries under them. */
  readonly counts = { suspensions: 0, refused: 0 };
  /** Answers that may not be: each is a breach of P5, or a refusal by the wrong code. */
  readonly breaches: string[] = [];

  constructor(clients: readonly Pick<Loaded, 'request'>[], random: () => number, purpose: Purpose) {
    this.#clients = clients;
    this.#random = random;
    this.#purpose = purpose;
    this.#key = `chaos-suspended-${purpose}`;
  }

  #any(): Pick<Loaded, 'request'> {
    const client = this.#clients[Math.floor(this.#random() * this.#clients.length)];
    if (client === undefined) throw new Error('no zone');
    return client;
  }

  async run(isOver: () => boolean): Promise<void> {
    while (!isOver()) {
      await this.#ready(isOver);
      const suspended = await this.#until(isOver, 'suspend');
      if (!suspended) break;
      this.counts.suspensions += 1;
      await this.#tryAll();
      // What was asked for is only known to have happened once it is acknowledged, so it is asked again.
      if (!(await this.#until(isOver, 'resume'))) break;
      await sleep(200);
    }
    await this.#until(() => false, 'resume');
  }

  async #ready(isOver: () => boolean): Promise<void> {
    while (this.#uses.length === 0 && !isOver()) {
      const made = await this.#send('POST', '/v1/admin/keys', {
        name: this.#key,
        suite: SUITES[this.#purpose],
      });
      const exists = made?.status === 201 || made?.json.code === 'key_exists';
      if (exists) this.#uses = await this.#usesOf(this.#purpose);
      if (this.#uses.length === 0) await sleep(200);
    }
  }

  async #usesOf(purpose: Purpose): Promise<readonly Use[]> {
    if (purpose === 'sign') return [{ operation: 'sign', body: { message: PLAINTEXT } }];
    const wrap = { operation: 'wrap', body: { plaintext: PLAINTEXT } };
    const wrapped = await this.#send('POST', `/v1/keys/${this.#key}/wrap`, wrap.body);
    if (wrapped?.status !== 200) return [];
    const unwrap = { operation: 'unwrap', body: { ciphertext: wrapped.json['ciphertext'] } };
    return [unwrap, unwrap, wrap];
  }

  async #tryAll(): Promise<void> {
    for (let wave = 0; wave < WAVES; wave += 1) {
      await Promise.all(Array.from({ length: TRIES }, (_, place) => this.#try(place)));
      await sleep(this.#random() * WAVE_MS);
    }
  }

  async #try(place: number): Promise<void> {
    const use = this.#uses[place % this.#uses.length];
    if (use === undefined) return;
    const { operation, body } = use;
    const answer = await this.#send('POST', `/v1/keys/${this.#key}/${operation}`, body);
    if (answer === null || answer.status === 503) return;
    if (answer.status === 409 && answer.json.code === 'version_not_usable') {
      this.counts.refused += 1;
      return;
    }
    this.breaches.push(`${operation} by a suspended key: ${answer.bytes.toString('utf8')}`);
  }

  async #until(isOver: () => boolean, what: 'suspend' | 'resume'): Promise<boolean> {
    for (;;) {
      const answer = await this.#send('POST', `/v1/admin/keys/${this.#key}/${what}`, {
        reason: 'chaos',
      });
      if (answer?.status === 200) return true;
      if (isOver()) return false;
      if (answer !== null && answer.status !== 503) {
        this.breaches.push(`${what}: ${String(answer.status)} ${answer.bytes.toString('utf8')}`);
      }
      await sleep(200);
    }
  }

  /** Null where the connection broke and nothing is known; undocumented answers are noted by whoever sends. */
  async #send(method: string, path: string, body: object): Promise<Answer | null> {
    try {
      return await this.#any().request(method, path, body);
    } catch {
      return null;
    }
  }
}
