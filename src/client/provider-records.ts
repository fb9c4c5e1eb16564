/** The record of a Kubernetes provider at its key, changed by its operator. */
import { approval } from '../contract/approvals.ts';
import { keyResource } from '../contract/keys.ts';
import type { KeyReference } from '../crypto/envelope.ts';
import { formatRecord, hasEnded, parseRecord, providerLabel } from '../keyring/provider-record.ts';
import type { ProviderRecord } from '../keyring/provider-record.ts';
import { NAME } from '../name.ts';
import { ClientError } from './client-error.ts';
import { JSON_TYPE, jsonOf, unexpected } from './http-connection.ts';
import type { Answer, HttpConnection } from './http-connection.ts';

export interface RecordPlace {
  readonly namespace: string;
  readonly key: string;
  readonly cluster: string;
  /** Of the very change, given by others before; null where none is known. */
  readonly approval: string | null;
}

/** Whether a change was made, or the id of the approval that it waits for. */
export type Changed = { readonly waitsFor: string | null };

interface Found {
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly primary: number | null;
  readonly etag: string;
}

/** What a request is refused for whose own first attempt was written. */
const OF_OWN_SUCCESS: readonly string[] = ['etag_mismatch', 'approval_used'];
const WRITTEN = { status: 200, body: new Uint8Array(0) };

const refuse = (why: string) => new ClientError('invalid_value', why);

export class ProviderRecords {
  readonly #connection: HttpConnection;
  readonly #place: RecordPlace;

  constructor(connection: HttpConnection, place: RecordPlace) {
    this.#connection = connection;
    this.#place = place;
  }

  /**
   * Makes the record, without which no agent of the cluster seals anything; it begins with the primary
   * version. One that ended begins anew, with a version that was never announced.
   * @returns that version
   * @throws ClientError invalid_value where there is one; the service's
   */
  async register(provider: string): Promise<Changed & { readonly version: number }> {
    const { cluster, key } = this.#place;
    const found = await this.#read();
    const { primary } = found;
    if (primary === null) throw refuse(`The key ${key} has no active version.`);
    const text = found.labels[providerLabel(cluster)];
    const former = text === undefined ? null : parseRecord(text);
    if (former !== null && !hasEnded(former)) {
      throw refuse(`The key ${key} has a provider of cluster ${cluster} already.`);
    }
    if (former !== null && primary <= former.announced) {
      throw refuse(
        `Version ${String(former.announced)} was announced before the provider ended: rotate the key first.`,
      );
    }
    const { retired = 0, proof = null } = former ?? {};
    const record = { provider, announced: primary, retired, proof };
    return { ...(await this.#write(found, record)), version: primary };
  }

  /**
   * Closes the versions up to `keyVersion` for the provider.
   * @param proof SHA-256 of the snapshot in which none of their values was found, base64url
   * @throws ClientError invalid_value where the key is another, the provider has no record, or the version is
   *   announced yet; the service's
   */
  async retire({ keyId, keyVersion }: KeyReference, proof: string): Promise<Changed> {
    const { key } = this.#place;
    const { found, record } = await this.#standing();
    if (found.id !== keyId) throw refuse(`The key_id is not of the key ${key}.`);
    if (keyVersion >= record.announced) {
      throw refuse(
        `Version ${String(record.announced)} is announced: only earlier ones are retired.`,
      );
    }
    if (keyVersion <= record.retired) throw refuse('These versions are retired already.');
    return this.#write(found, { ...record, retired: keyVersion, proof });
  }

  /** Id of the key, of whose versions nothing may be stored when the provider ends. @throws as `end` */
  async keyId(): Promise<string> {
    return (await this.#standing()).found.id;
  }

  /**
   * Ends the provider: its announced version is retired too, and it seals nothing more.
   * @param proof SHA-256 of the snapshot in which no value of the key was found, base64url
   * @throws ClientError invalid_value where the provider has no record or has ended; the service's
   */
  async end(proof: string): Promise<Changed> {
    const { found, record } = await this.#standing();
    return this.#write(found, { ...record, retired: record.announced, proof });
  }

  async #standing() {
    const { key, cluster } = this.#place;
    const found = await this.#read();
    const text = found.labels[providerLabel(cluster)];
    if (text === undefined) throw refuse(`The key ${key} has no provider of cluster ${cluster}.`);
    const record = parseRecord(text);
    if (hasEnded(record)) throw refuse(`The provider of cluster ${cluster} has ended.`);
    return { found, record };
  }

  async #read(): Promise<Found> {
    const { namespace, key } = this.#place;
    const { body, header } = await this.#connection.send({
      method: 'GET',
      path: `/v1/keys/${encodeURIComponent(key)}`,
      accept: JSON_TYPE,
      headers: { [`${NAME.header}Namespace`]: namespace },
    });
    const parsed = keyResource.safeParse(jsonOf(body));
    if (!parsed.success) throw unexpected('The answer is no key.');
    const { id, labels, primary } = parsed.data;
    return { id, labels, primary, etag: header('etag') ?? '' };
  }

  async #write({ etag }: Found, record: ProviderRecord): Promise<Changed> {
    const text = formatRecord(record);
    const { status, body } = await this.#patch(etag, text).catch(async (error: unknown) => {
      // Said once all instances know what stands; that may be what an attempt wrote whose answer was lost.
      const isOwn = ClientError.is(error) && OF_OWN_SUCCESS.includes(error.code);
      if (isOwn && (await this.#stands(text))) return WRITTEN;
      throw error;
    });
    if (status === 200) return { waitsFor: null };
    const asked = approval.safeParse(jsonOf(body));
    if (!asked.success) throw unexpected('The answer is no request for an approval.');
    return { waitsFor: asked.data.id };
  }

  async #stands(text: string): Promise<boolean> {
    return (await this.#read()).labels[providerLabel(this.#place.cluster)] === text;
  }

  #patch(etag: string, text: string): Promise<Pick<Answer, 'status' | 'body'>> {
    const { namespace, key, cluster, approval: given } = this.#place;
    const labels = { [providerLabel(cluster)]: text };
    return this.#connection.send({
      method: 'PATCH',
      changes: true,
      path: `/v1/admin/keys/${encodeURIComponent(key)}`,
      accept: JSON_TYPE,
      contentType: JSON_TYPE,
      body: Buffer.from(JSON.stringify({ labels })),
      headers: {
        [`${NAME.header}Namespace`]: namespace,
        'If-Match': etag,
        ...(given === null ? {} : { [`${NAME.header}Approval`]: given }),
      },
      statuses: [200, 202],
    });
  }
}
