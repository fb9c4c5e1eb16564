/**
 * P5 while everything breaks: after a suspension was acknowledged, no request that begins before its
 * end is asked for succeeds, in any zone.
 */
import { setTimeout as sleep } from 'node:timers/promises';

import type { Loaded } from '../../e2e/ledger.ts';
import type { Answer } from '../../e2e/service.ts';

const PLAINTEXT = Buffer.from('a data key of the key that is suspended').toString('base64');
const TRIES = 12;

export class Suspensions {
  readonly #clients: readonly Pick<Loaded, 'request'>[];
  readonly #random: () => number;
  readonly #key: string;
  #ciphertext: string | null = null;
  /** Suspensions that were acknowledged, and tries under them. */
  readonly counts = { suspensions: 0, refused: 0 };
  /** Answers that may not be: each is a breach of P5, or a refusal by the wrong code. */
  readonly breaches: string[] = [];

  constructor(clients: readonly Pick<Loaded, 'request'>[], random: () => number, key: string) {
    this.#clients = clients;
    this.#random = random;
    this.#key = key;
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
    while (this.#ciphertext === null && !isOver()) {
      const made = await this.#send('POST', '/v1/admin/keys', {
        name: this.#key,
        suite: 'MLKEM768-P256',
      });
      const exists = made?.status === 201 || made?.json.code === 'key_exists';
      const wrapped = exists
        ? await this.#send('POST', `/v1/keys/${this.#key}/wrap`, { plaintext: PLAINTEXT })
        : null;
      if (wrapped?.status === 200) this.#ciphertext = String(wrapped.json['ciphertext']);
      else await sleep(200);
    }
  }

  async #tryAll(): Promise<void> {
    const tries = Array.from({ length: TRIES }, async (_, place) => {
      const [use, body] =
        place % 3 === 2
          ? ['wrap', { plaintext: PLAINTEXT }]
          : ['unwrap', { ciphertext: this.#ciphertext }];
      const answer = await this.#send('POST', `/v1/keys/${this.#key}/${use}`, body);
      if (answer === null || answer.status === 503) return;
      if (answer.status === 409 && answer.json.code === 'version_not_usable') {
        this.counts.refused += 1;
        return;
      }
      this.breaches.push(`${use} by a suspended key: ${answer.bytes.toString('utf8')}`);
    });
    await Promise.all(tries);
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
