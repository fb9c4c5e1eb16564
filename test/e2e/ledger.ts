/**
 * A load of creates, rotates, wraps and signatures that remembers what was acknowledged, and can
 * ask a later service whether it was kept.
 */
import { randomBytes, randomUUID } from 'node:crypto';

import type { Answer, TestService } from './service.ts';

/** What the load works on: a service, or one of several over the same keys. */
export type Loaded = Pick<TestService, 'request' | 'running'>;

interface LoadKey {
  readonly name: string;
  readonly signs: boolean;
  /** Highest version that was acknowledged. */
  version: number;
  rotating: boolean;
}

interface Wrap {
  readonly key: string;
  readonly plaintext: string;
  readonly ciphertext: string;
}

interface Signature {
  readonly key: string;
  readonly message: string;
  readonly signature: string;
  readonly keyVersion: number;
}

/** A change that was sent and not answered; sent again it must be answered once and alike. */
interface Unanswered {
  readonly path: string;
  readonly body: unknown;
  readonly idempotencyKey: string;
  readonly kept: (answer: Answer) => void;
}

const SIGN_SUITES = ['MLDSA65-ECDSA-P256-SHA512'];
const WRAP_SUITES = ['MLKEM768-P256', 'A256GCM', 'MLKEM1024-P384'];
/** Its classical half is an object on the token. */
const TOKEN_SUITE = 'MLKEM768-X25519';

/** Answers that a dying service may give; anything else than these and success is a defect. */
const MAY_FAIL = new Set([503]);

export class Ledger {
  readonly #random: () => number;
  readonly #maxTokenObjects: number;
  readonly #maxKeys: number;
  readonly #keys = new Map<string, LoadKey>();
  readonly #wraps: Wrap[] = [];
  readonly #signatures: Signature[] = [];
  readonly #auditIds: string[] = [];
  #tokenObjects = 0;
  #unanswered: Unanswered[] = [];
  /** What was asked again and where it began, so that a round checks what is new. */
  #checked = { wraps: 0, signatures: 0 };
  /** Codes of the refusals that were allowed. */
  readonly refusals = new Set<string>();
  /** Answers that were neither success nor allowed. */
  readonly surprises: string[] = [];

  constructor(random: () => number, maxTokenObjects: number, maxKeys = Number.MAX_SAFE_INTEGER) {
    this.#random = random;
    this.#maxKeys = maxKeys;
    this.#maxTokenObjects = maxTokenObjects;
  }

  /** Audit ids of what was acknowledged since the last call. */
  takeAuditIds(): string[] {
    return this.#auditIds.splice(0);
  }

  get counts(): object {
    const { size: keys } = this.#keys;
    const { length: wraps } = this.#wraps;
    const versions = [...this.#keys.values()].reduce((sum, { version }) => sum + version, 0);
    return { keys, versions, wraps, signatures: this.#signatures.length };
  }

  /** Works until the service is gone; `isOver` ends it before. */
  async load(service: Loaded, workers: number, isOver: () => boolean): Promise<void> {
    const work = async (): Promise<void> => {
      while (!isOver()) {
        try {
          await this.#act(service);
        } catch {
          // The connection broke: nothing was acknowledged.
          if (!service.running) return;
        }
      }
    };
    await Promise.all(Array.from({ length: workers }, work));
  }

  #pick<T>(from: readonly T[]): T | undefined {
    return from[Math.floor(this.#random() * from.length)];
  }

  #act(service: Loaded): Promise<void> {
    const dice = this.#random();
    const key = this.#pick([...this.#keys.values()]);
    if (key === undefined || (dice < 0.2 && this.#keys.size < this.#maxKeys)) {
      return this.#create(service);
    }
    if (dice < 0.35 && !key.rotating) return this.#rotate(service, key);
    return key.signs ? this.#sign(service, key) : this.#wrap(service, key);
  }

  #suite(): string {
    const dice = this.#random();
    if (dice < 0.4 && this.#tokenObjects < this.#maxTokenObjects) {
      this.#tokenObjects += 1;
      return TOKEN_SUITE;
    }
    return this.#pick(dice < 0.55 ? SIGN_SUITES : WRAP_SUITES) ?? '';
  }

  async #create(service: Loaded): Promise<void> {
    const suite = this.#suite();
    const name = `load-${randomUUID().slice(0, 13)}`;
    const signs = SIGN_SUITES.includes(suite);
    await this.#change(service, '/v1/admin/keys', { name, suite }, () => {
      this.#keys.set(name, { name, signs, version: 1, rotating: false });
    });
  }

  async #rotate(service: Loaded, key: LoadKey): Promise<void> {
    const toToken =
      !key.signs && this.#random() < 0.3 && this.#tokenObjects < this.#maxTokenObjects;
    if (toToken) this.#tokenObjects += 1;
    key.rotating = true;
    const body = toToken ? { suite: TOKEN_SUITE } : {};
    await this.#change(service, `/v1/admin/keys/${key.name}/rotate`, body, (answer) => {
      key.version = Math.max(key.version, Number(answer.json['latestVersion']));
      key.rotating = false;
    });
  }

  async #change(
    service: Loaded,
    path: string,
    body: unknown,
    kept: (answer: Answer) => void,
  ): Promise<void> {
    const change = { path, body, idempotencyKey: randomUUID(), kept };
    this.#unanswered.push(change);
    const answered = await this.#send(service, change);
    if (answered) this.#unanswered = this.#unanswered.filter((one) => one !== change);
  }

  async #send(service: Loaded, change: Unanswered): Promise<boolean> {
    const headers = { 'Idempotency-Key': change.idempotencyKey };
    const answer = await service.request('POST', change.path, change.body, { headers });
    if (this.#acknowledged(answer)) {
      change.kept(answer);
      return true;
    }
    return !MAY_FAIL.has(answer.status);
  }

  async #wrap(service: Loaded, { name }: LoadKey): Promise<void> {
    const plaintext = randomBytes(32).toString('base64');
    const answer = await service.request('POST', `/v1/keys/${name}/wrap`, { plaintext });
    if (!this.#acknowledged(answer)) return;
    this.#wraps.push({ key: name, plaintext, ciphertext: String(answer.json['ciphertext']) });
  }

  async #sign(service: Loaded, { name }: LoadKey): Promise<void> {
    const message = randomBytes(64).toString('base64');
    const answer = await service.request('POST', `/v1/keys/${name}/sign`, { message });
    if (!this.#acknowledged(answer)) return;
    const { signature, keyVersion } = answer.json;
    this.#signatures.push({
      key: name,
      message,
      signature: String(signature),
      keyVersion: Number(keyVersion),
    });
  }

  #acknowledged(answer: Answer): boolean {
    if (answer.status >= 200 && answer.status < 300) {
      const id = answer.headers.get('Twofold-Audit-Id');
      if (id === null) this.surprises.push(`${answer.status} without an audit id`);
      else this.#auditIds.push(id);
      return true;
    }
    if (MAY_FAIL.has(answer.status)) this.refusals.add(answer.json.code ?? '');
    else {
      this.surprises.push(`${answer.status} ${answer.bytes.toString('utf8')}`);
    }
    return false;
  }

  /** Sends again what a killed service did not answer: each takes effect once, before or now. */
  async finish(service: Loaded): Promise<number> {
    const open = this.#unanswered;
    this.#unanswered = [];
    const again = open.map((change) => async () => {
      if (!(await this.#send(service, change))) {
        this.surprises.push(`${change.path} is still not answered`);
      }
    });
    await inTurns(4, again);
    return open.length;
  }

  /** What of the acknowledged does not work; what is new since the last call, and `sample` older ones. */
  async lost(service: Loaded, sample = Number.MAX_SAFE_INTEGER): Promise<string[]> {
    const { wraps, signatures } = this.#checked;
    this.#checked = { wraps: this.#wraps.length, signatures: this.#signatures.length };
    const found = await inTurns(8, [
      ...some(this.#wraps, wraps, sample).map((wrap) => () => lostWrap(service, wrap)),
      ...some(this.#signatures, signatures, sample).map((one) => () => lostSignature(service, one)),
    ]);
    return found.flat();
  }

  /** Which keys, acknowledged or not, are not usable or lack an acknowledged version. */
  async broken(service: Loaded): Promise<string[]> {
    const wrong: string[] = [];
    const seen = new Map<string, number>();
    let token: unknown;
    do {
      const page = typeof token === 'string' ? `&pageToken=${encodeURIComponent(token)}` : '';
      const { json } = await service.request('GET', `/v1/keys?pageSize=500${page}`);
      for (const { name, latestVersion } of json['items'] as {
        name: string;
        latestVersion: number;
      }[]) {
        seen.set(name, latestVersion);
      }
      token = json['nextPageToken'];
    } while (typeof token === 'string');
    for (const { name, version } of this.#keys.values()) {
      const latest = seen.get(name);
      if (latest === undefined) wrong.push(`${name} is gone`);
      else if (latest < version) wrong.push(`${name} has ${latest} of ${version} versions`);
    }
    const uses = [...seen.keys()].map((name) => () => unusable(service, name));
    return [...wrong, ...(await inTurns(8, uses)).flat()];
  }
}

/** Everything from `from`, and at most `sample` before it, the newest. */
const some = <T>(all: readonly T[], from: number, sample: number): T[] =>
  all.slice(Math.max(0, from - sample));

const inTurns = async <T>(width: number, tasks: readonly (() => Promise<T>)[]): Promise<T[]> => {
  const results: T[] = [];
  const queue = tasks.values();
  const work = async (): Promise<void> => {
    for (const task of queue) results.push(await task());
  };
  await Promise.all(Array.from({ length: width }, work));
  return results;
};

async function lostWrap(service: Loaded, { key, plaintext, ciphertext }: Wrap) {
  const answer = await service.request('POST', `/v1/keys/${key}/unwrap`, { ciphertext });
  const kept = answer.status === 200 && answer.json['plaintext'] === plaintext;
  return kept ? [] : [`wrap of ${key}: ${answer.status} ${answer.bytes.toString('utf8')}`];
}

async function lostSignature(service: Loaded, { key, ...body }: Signature) {
  const answer = await service.request('POST', `/v1/keys/${key}/verify`, body);
  const kept = answer.status === 200 && answer.json['valid'] === true;
  return kept ? [] : [`signature of ${key}: ${answer.status} ${answer.bytes.toString('utf8')}`];
}

/** A wrap and an unwrap, or a signature that verifies. */
async function unusable(service: Loaded, name: string): Promise<string[]> {
  const { json: key } = await service.request('GET', `/v1/keys/${name}`);
  const plaintext = randomBytes(16).toString('base64');
  const [use, check, input] =
    key['purpose'] === 'sign'
      ? (['sign', 'verify', { message: plaintext }] as const)
      : (['wrap', 'unwrap', { plaintext }] as const);
  const made = await service.request('POST', `/v1/keys/${name}/${use}`, input);
  if (made.status !== 200) return [`${use} ${name}: ${made.status} ${made.bytes.toString('utf8')}`];
  const { ciphertext, signature, keyVersion } = made.json;
  const body = use === 'sign' ? { ...input, signature, keyVersion } : { ciphertext };
  const back = await service.request('POST', `/v1/keys/${name}/${check}`, body);
  const works = use === 'sign' ? back.json['valid'] === true : back.json['plaintext'] === plaintext;
  return works ? [] : [`${check} ${name}: ${back.status} ${back.bytes.toString('utf8')}`];
}
