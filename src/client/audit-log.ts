/** The audit log of a service, as its readers are given it. What comes is read strictly, and believed in nothing. */
import type { IncomingMessage } from 'node:http';

import { TILE_WIDTH } from '../audit/tree/tiles.ts';
import { getAuditEntry } from '../contract/audit.ts';
import { listCheckpoints, listKeyStates, listLanes, listLogEntries } from '../contract/log.ts';
import { listLogKeys } from '../contract/log-keys.ts';
import type { keyState, lane } from '../contract/log.ts';
import { NAME } from '../name.ts';
import { ClientError } from './client-error.ts';
import { JSON_TYPE, jsonOf, unexpected } from './http-connection.ts';
import type { HttpConnection } from './http-connection.ts';

const PAGE_SIZE = 200;
/** 256 entries, each after its length. */
const MAX_BUNDLE = 256 * 65_537;
/** A page ends after the item that takes it over its bound; bytes are told in base64, and as members. */
const MAX_PAGE = 64 * 1024 * 1024;

type Read<T extends { parse(value: unknown): unknown }> = ReturnType<T['parse']>;
type Schema<T> = { safeParse(value: unknown): { success: boolean; data?: T; error?: unknown } };

export type KeyStateRow = Read<typeof keyState>;
export type LaneRow = Read<typeof lane>;
type CheckpointPage = Read<typeof listCheckpoints.response>;

/** @throws ClientError unexpected_answer */
function readAs<T>(schema: Schema<T>, body: Uint8Array): T {
  const parsed = schema.safeParse(jsonOf(body));
  if (parsed.success && parsed.data !== undefined) return parsed.data;
  throw unexpected('The answer has not the form that it is to have.', parsed.error);
}

/** Every method rejects with a `ClientError` of the service's code, `service_unreachable` or `unexpected_answer`. */
export class AuditLogClient {
  readonly #connection: HttpConnection;

  constructor(connection: HttpConnection) {
    this.#connection = connection;
  }

  /** The newest checkpoint, a signed note. */
  async checkpoint(): Promise<string> {
    return text((await this.#get('checkpoint', 'text/plain')).body);
  }

  /** Checkpoints of at least `size` entries, the smallest first, page by page. */
  async *checkpoints(size: number): AsyncGenerator<CheckpointPage['items']> {
    for (let next: number | null = size; next !== null;) {
      const path: string = `checkpoints?pageSize=${PAGE_SIZE}&size=${next}`;
      const page: CheckpointPage = await this.#json(path, listCheckpoints.response);
      yield page.items;
      next = page.next;
    }
  }

  /** @param path `tile/…` of C2SP tlog-tiles */
  async tile(path: string): Promise<Uint8Array> {
    return (await this.#get(path, 'application/octet-stream', { most: MAX_BUNDLE })).body;
  }

  /** The smallest checkpoint of at least `size` entries; null where the log ends before. */
  async checkpointFrom(size: number): Promise<CheckpointPage['items'][number] | null> {
    const { items } = await this.#json(
      `checkpoints?pageSize=1&size=${size}`,
      listCheckpoints.response,
    );
    return items[0] ?? null;
  }

  /**
   * Whether the bundle of an index is in cold storage: whole bundles are, and of one that is the rows that a lane goes
   * on from are still there.
   */
  async isArchived(index: number): Promise<boolean> {
    const path = `log?pageSize=${TILE_WIDTH}&from=${index - (index % TILE_WIDTH)}`;
    try {
      await this.#json(path, listLogEntries.response);
      return false;
    } catch (error) {
      if (ClientError.is(error, 'entry_archived')) return true;
      throw error;
    }
  }

  /** Proof of inclusion (C2SP tlog-proof, text). */
  async proof(id: string, namespace?: string): Promise<string> {
    const path = `entries/${encodeURIComponent(id)}/proof`;
    return text((await this.#get(path, 'text/plain', { namespace })).body);
  }

  /** An entry, with its canonical bytes as base64. */
  entry(id: string, namespace?: string): Promise<{ readonly body: string }> {
    const path = `entries/${encodeURIComponent(id)}`;
    return this.#json(path, getAuditEntry.response, namespace);
  }

  /** Verifier keys of the log (C2SP signed-note), as the service says them. */
  keys(): Promise<Read<typeof listLogKeys.response>> {
    return this.#json('keys', listLogKeys.response);
  }

  /** Keys and versions of every namespace, page by page. */
  keyStates(): AsyncGenerator<readonly KeyStateRow[]> {
    return this.#pages<KeyStateRow>('key-states', listKeyStates.response);
  }

  lanes(): AsyncGenerator<readonly LaneRow[]> {
    return this.#pages<LaneRow>('lanes', listLanes.response);
  }

  /** Id of an entry that this request has made. */
  async mark(): Promise<string | null> {
    const { header } = await this.#get('lanes?pageSize=1', JSON_TYPE);
    return header(`${NAME.header}Audit-Id`) ?? null;
  }

  /** A stream of server-sent events, to be read or destroyed. */
  stream(
    query: URLSearchParams,
    {
      lastId,
      namespace,
    }: { readonly lastId: string | null; readonly namespace?: string | undefined },
  ): Promise<IncomingMessage> {
    return this.#connection.open({
      method: 'GET',
      path: `/v1/audit/stream?${query.toString()}`,
      accept: 'text/event-stream',
      headers: {
        ...namespaceHeader(namespace),
        ...(lastId === null ? {} : { 'Last-Event-ID': lastId }),
      },
    });
  }

  async *#pages<T>(
    path: string,
    schema: Schema<{ readonly items: readonly T[]; readonly nextPageToken: string | null }>,
  ): AsyncGenerator<readonly T[]> {
    for (let token: string | null = ''; token !== null;) {
      const more: string = token === '' ? '' : `&pageToken=${encodeURIComponent(token)}`;
      const page = await this.#json(`${path}?pageSize=${PAGE_SIZE}${more}`, schema);
      yield page.items;
      token = page.nextPageToken;
    }
  }

  async #json<T>(path: string, schema: Schema<T>, namespace?: string): Promise<T> {
    return readAs(schema, (await this.#get(path, JSON_TYPE, { most: MAX_PAGE, namespace })).body);
  }

  #get(
    path: string,
    accept: string,
    { most, namespace }: { readonly most?: number; readonly namespace?: string | undefined } = {},
  ) {
    return this.#connection.send({
      method: 'GET',
      path: `/v1/audit/${path}`,
      accept,
      headers: namespaceHeader(namespace),
      ...(most === undefined ? {} : { most }),
    });
  }
}

const namespaceHeader = (namespace: string | undefined): Readonly<Record<string, string>> =>
  namespace === undefined ? {} : { [`${NAME.header}Namespace`]: namespace };

const text = (body: Uint8Array): string => Buffer.from(body).toString('utf8');
