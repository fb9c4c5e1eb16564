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
  /** How many versions it has by what was acknowledged: one, and one for each rotation. */
  acknowledged: number;
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
  readonly sentAt: number;
  /** Of the key that it makes or changes. */
  readonly name: string;
  /** How many times it is under way now. */
  underWay: number;
  /** How it was answered, as text. */
  answer: string | null;
}

const SIGN_SUITES = ['MLDSA65-ECDSA-P256-SHA512'];
const WRAP_SUITES = ['MLKEM768-P256', 'A256GCM', 'MLKEM1024-P384'];
/** Its classical half is an object on the token. */
const TOKEN_SUITE = 'MLKEM768-X25519';

/** Answers that a dying service may give; anything else than these and success is a defect. */
const MAY_FAIL = new Set([503]);
/** A client that has no answer for so long asks another zone, while the first may still be at it. */
const IMPATIENT_MS = 2_000;
const PREFIX = 'load-';

export interface LedgerOptions {
  /** How many keys there may be by now; as many as come unless given. */
  readonly mostKeys?: () => number;
  /** Changes without an answer are sent again at once, to whichever service the load is on; false unless given. */
  readonly repeats?: boolean;
}

export class Ledger {
  readonly #random: () => number;
  readonly #maxTokenObjects: number;
  readonly #mostKeys: () => number;
  readonly #repeats: boolean;
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
  /** Changes that were sent again before they had an answer, or after a refusal. */
  repeated = 0;

  constructor(random: () => number, maxTokenObjects: number, options: LedgerOptions = {}) {
    this.#random = random;
    this.#mostKeys = options.mostKeys ?? (() => Number.MAX_SAFE_INTEGER);
    this.#repeats = options.repeats ?? false;
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
    const again = this.#repeats && this.#random() < 0.3 ? this.#impatient() : undefined;
    if (again !== undefined) {
      this.repeated += 1;
      return this.#ask(service, again);
    }
    const key = this.#pick([...this.#keys.values()]);
    if (key === undefined || (dice < 0.2 && this.#keys.size < this.#mostKeys())) {
      return this.#create(service);
    }
    if (dice < 0.35 && !key.rotating) return this.#rotate(service, key);
    return key.signs ? this.#sign(service, key) : this.#wrap(service, key);
  }

  /** A change that a client would send again by now: twice under way at most. */
  #impatient(): Unanswered | undefined {
    const now = performance.now();
    return this.#unanswered.find(
      ({ underWay, sentAt }) => underWay === 0 || (underWay === 1 && now - sentAt > IMPATIENT_MS),
    );
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
    const name = `${PREFIX}${randomUUID().slice(0, 13)}`;
    const signs = SIGN_SUITES.includes(suite);
    await this.#change(service, name, '/v1/admin/keys', { name, suite }, () => {
      this.#keys.set(name, { name, signs, version: 1, acknowledged: 1, rotating: false });
    });
  }

  async #rotate(service: Loaded, key: LoadKey): Promise<void> {
    const toToken =
      !key.signs && this.#random() < 0.3 && this.#tokenObjects < this.#maxTokenObjects;
    if (toToken) this.#tokenObjects += 1;
    key.rotating = true;
    const body = toToken ? { suite: TOKEN_SUITE } : {};
    const { name } = key;
    await this.#change(service, name, `/v1/admin/keys/${name}/rotate`, body, (answer) => {
      key.version = Math.max(key.version, Number(answer.json['latestVersion']));
      key.acknowledged += 1;
      key.rotating = false;
    });
  }

  async #change(
    service: Loaded,
    name: string,
    path: string,
    body: unknown,
    kept: (answer: Answer) => void,
  ): Promise<void> {
    const change: Unanswered = {
      ...{ name, path, body, kept, idempotencyKey: randomUUID() },
      ...{ sentAt: performance.now(), underWay: 0, answer: null },
    };
    this.#unanswered.push(change);
    await this.#ask(service, change);
  }

  /** What was answered is asked no more. */
  async #ask(service: Loaded, change: Unanswered): Promise<void> {
    const answered = await this.#send(service, change);
    if (answered) this.#unanswered = this.#unanswered.filter((one) => one !== change);
  }

  async #send(service: Loaded, change: Unanswered): Promise<boolean> {
    const headers = { 'Idempotency-Key': change.idempotencyKey };
    const others = change.underWay;
    change.underWay += 1;
    const answer = await service
      .request('POST', change.path, change.body, { headers })
      .finally(() => (change.underWay -= 1));
    // Of two that are under way one may be told that the other is.
    const isOther = answer.json.code === 'idempotency_in_progress';
    if (isOther && (others > 0 || change.underWay > 0)) return change.answer !== null;
    if (!this.#acknowledged(answer)) return !MAY_FAIL.has(answer.status);
    const text = answer.bytes.toString('utf8');
    if (change.answer === null) change.kept(answer);
    else if (change.answer !== text) {
      this.surprises.push(
        `${change.path} was answered twice, and otherwise: ${change.answer} ${text}`,
      );
    }
    change.answer = text;
    return true;
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
    wrong.push(...this.#twice(seen));
    const uses = [...seen.keys()].map((name) => () => unusable(service, name));
    return [...wrong, ...(await inTurns(8, uses)).flat()];
  }

  /** Versions and keys beyond what was acknowledged: a change that took effect twice, or was never asked for. */
  #twice(seen: ReadonlyMap<string, number>): string[] {
    const open = (name: string) => this.#unanswered.filter((change) => change.name === name).length;
    return [...seen].flatMap(([name, latest]) => {
      if (!name.startsWith(PREFIX)) return [];
      const most = (this.#keys.get(name)?.acknowledged ?? 0) + open(name);
      return latest <= most ? [] : [`${name} has ${latest} versions, and ${most} were asked for`];
    });
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
