/** The kinds of change that end an old way of answering: what is asked, what is changed, and which is which. */
import { randomUUID } from 'node:crypto';

import type { TestService } from '../e2e/service.ts';
import type { Committed } from './p5-barrier.ts';
import type { Question, Shot } from './p5-hammer.ts';

type Facts = Pick<Shot, 'status' | 'json'>;

export interface Kind {
  readonly question: Question;
  readonly change: { readonly method: string; readonly path: string; readonly body?: object };
  /** `If-Match`, where it is demanded. */
  readonly ifMatch: string | null;
  readonly isOld: (answer: Facts) => boolean;
  readonly isNew: (answer: Facts) => boolean;
  /** The entry of an answer in the old way. */
  readonly oldEntry: (entry: Committed) => boolean;
}

const plaintext = Buffer.from('a data key of a checkpoint').toString('base64');
const reason = 'a drill';

const refused =
  (code: string) =>
  ({ status, json }: Facts): boolean =>
    status >= 400 && json['code'] === code;
const served = ({ status }: Facts): boolean => status === 200;
const servedBy =
  (member: string, value: unknown) =>
  ({ status, json }: Facts): boolean =>
    status === 200 && json[member] === value;

class Bench {
  readonly name = `drill-${randomUUID().slice(0, 13)}`;
  readonly #service: TestService;
  readonly #headers: Record<string, string>;

  constructor(service: TestService, namespace?: string) {
    this.#service = service;
    this.#headers = namespace === undefined ? {} : { 'Twofold-Namespace': namespace };
  }

  get admin(): string {
    return `/v1/admin/keys/${this.name}`;
  }

  use(operation: string, key = this.name): string {
    return `/v1/keys/${key}/${operation}`;
  }

  /** The id of a new key. */
  async key(name = this.name): Promise<string> {
    const { json } = await this.send('POST', '/v1/admin/keys', { name, suite: 'MLKEM768-P256' });
    return String(json['id']);
  }

  async ciphertext(): Promise<string> {
    const { json } = await this.send('POST', this.use('wrap'), { plaintext });
    return String(json['ciphertext']);
  }

  rotate = (): Promise<unknown> => this.send('POST', `${this.admin}/rotate`, {});

  async tag(): Promise<string> {
    const { headers } = await this.#service.request('GET', `/v1/keys/${this.name}`);
    return headers.get('etag') ?? '';
  }

  async send(method: string, path: string, body: object) {
    const headers = this.#headers;
    const answer = await this.#service.request(method, path, body, { headers });
    if (answer.status >= 300) throw new Error(answer.bytes.toString('utf8'));
    return answer;
  }
}

const none = { ifMatch: null } as const;

async function suspendKey(service: TestService): Promise<Kind> {
  const bench = new Bench(service);
  const id = await bench.key();
  return {
    ...none,
    question: { path: bench.use('unwrap'), body: { ciphertext: await bench.ciphertext() } },
    change: { method: 'POST', path: `${bench.admin}/suspend`, body: { reason } },
    isOld: served,
    isNew: refused('version_not_usable'),
    oldEntry: ({ operation, keyId, outcome }) =>
      operation === 'unwrap' && keyId === id && outcome === 'ok',
  };
}

async function resumeKey(service: TestService): Promise<Kind> {
  const bench = new Bench(service);
  const id = await bench.key();
  const ciphertext = await bench.ciphertext();
  await bench.send('POST', `${bench.admin}/suspend`, { reason });
  return {
    ...none,
    question: { path: bench.use('unwrap'), body: { ciphertext } },
    change: { method: 'POST', path: `${bench.admin}/resume`, body: { reason } },
    isOld: refused('version_not_usable'),
    isNew: served,
    oldEntry: ({ operation, keyId, outcome }) =>
      operation === 'unwrap' && keyId === id && outcome === 'version_not_usable',
  };
}

/** Both end the use of version 1 by what it wrapped. */
async function endVersion(
  service: TestService,
  changeOf: (bench: Bench) => Kind['change'],
): Promise<Kind> {
  const bench = new Bench(service);
  const id = await bench.key();
  const ciphertext = await bench.ciphertext();
  await bench.rotate();
  return {
    ...none,
    question: { path: bench.use('unwrap'), body: { ciphertext } },
    change: changeOf(bench),
    isOld: served,
    isNew: refused('version_not_usable'),
    oldEntry: ({ operation, keyId, keyVersion, outcome }) =>
      operation === 'unwrap' && keyId === id && keyVersion === 1 && outcome === 'ok',
  };
}

async function moveAlias(service: TestService): Promise<Kind> {
  const bench = new Bench(service);
  const id = await bench.key();
  const to = `${bench.name}-to`;
  const alias = `${bench.name}-alias`;
  const toId = await bench.key(to);
  await bench.send('PUT', `${bench.admin}/aliases/${alias}`, {});
  return {
    ...none,
    question: { path: bench.use('wrap', alias), body: { plaintext } },
    change: {
      method: 'PUT',
      path: `/v1/admin/keys/${to}/aliases/${alias}`,
      body: { from: bench.name },
    },
    isOld: servedBy('keyId', id),
    isNew: servedBy('keyId', toId),
    oldEntry: ({ operation, keyRef, keyId, outcome }) =>
      operation === 'wrap' && keyRef === alias && keyId === id && outcome === 'ok',
  };
}

async function takeAlias(service: TestService): Promise<Kind> {
  const bench = new Bench(service);
  await bench.key();
  const alias = `${bench.name}-alias`;
  await bench.send('PUT', `${bench.admin}/aliases/${alias}`, {});
  return {
    ...none,
    question: { path: bench.use('wrap', alias), body: { plaintext } },
    change: { method: 'DELETE', path: `${bench.admin}/aliases/${alias}` },
    isOld: served,
    isNew: refused('key_not_found'),
    oldEntry: ({ keyRef, outcome }) => keyRef === alias && outcome === 'ok',
  };
}

/** Both change the version that protects. */
async function changePrimary(
  service: TestService,
  versions: { readonly before: number; readonly after: number },
): Promise<Kind> {
  const { before, after } = versions;
  const bench = new Bench(service);
  const id = await bench.key();
  for (let version = 1; version < before; version += 1) await bench.rotate();
  const back = after < before;
  return {
    ifMatch: back ? await bench.tag() : null,
    question: { path: bench.use('wrap'), body: { plaintext } },
    change: back
      ? { method: 'PUT', path: `${bench.admin}/primary`, body: { version: after, reason } }
      : { method: 'POST', path: `${bench.admin}/rotate`, body: {} },
    isOld: servedBy('keyVersion', before),
    isNew: servedBy('keyVersion', after),
    oldEntry: ({ operation, keyId, keyVersion, outcome }) =>
      operation === 'wrap' && keyId === id && keyVersion === before && outcome === 'ok',
  };
}

/** Every answer of the namespace stands on it, and on nothing else of its. */
async function suspendNamespace(service: TestService): Promise<Kind> {
  const namespace = `drill-${randomUUID().slice(0, 13)}`;
  const namespaces = '/v1/admin/namespaces';
  await new Bench(service).send('POST', namespaces, { name: namespace });
  const bench = new Bench(service, namespace);
  const id = await bench.key();
  return {
    ...none,
    question: {
      path: bench.use('unwrap'),
      body: { ciphertext: await bench.ciphertext() },
      namespace,
    },
    change: { method: 'POST', path: `${namespaces}/${namespace}/suspend`, body: { reason } },
    isOld: served,
    isNew: refused('namespace_suspended'),
    oldEntry: ({ operation, keyId, outcome }) =>
      operation === 'unwrap' && keyId === id && outcome === 'ok',
  };
}

export const KINDS: Readonly<Record<string, (service: TestService) => Promise<Kind>>> = {
  'a key is suspended': suspendKey,
  'a key is resumed': resumeKey,
  'a version is suspended': (service) =>
    endVersion(service, ({ admin }) => ({
      method: 'POST',
      path: `${admin}/versions/1/suspend`,
      body: { reason },
    })),
  'minUsableVersion is raised': (service) =>
    endVersion(service, ({ admin }) => ({
      method: 'PATCH',
      path: admin,
      body: { minUsableVersion: 2 },
    })),
  'an alias moves to another key': moveAlias,
  'an alias is taken away': takeAlias,
  'the primary is set back': (service) => changePrimary(service, { before: 2, after: 1 }),
  'a namespace is suspended': suspendNamespace,
  'a key is rotated': (service) => changePrimary(service, { before: 1, after: 2 }),
};
