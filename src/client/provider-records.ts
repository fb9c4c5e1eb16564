/** The record of a Kubernetes provider at its key, changed by its operator. */
import { keyResource } from '../contract/keys.ts';
import type { KeyReference } from '../crypto/envelope.ts';
import { formatRecord, parseRecord, providerLabel } from '../keyring/provider-record.ts';
import type { ProviderRecord } from '../keyring/provider-record.ts';
import { NAME } from '../name.ts';
import { ClientError } from './client-error.ts';
import { JSON_TYPE, jsonOf, unexpected } from './http-connection.ts';
import type { HttpConnection } from './http-connection.ts';

export interface RecordPlace {
  readonly namespace: string;
  readonly key: string;
  readonly cluster: string;
}

interface Found {
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly primary: number | null;
  readonly etag: string;
}

const refuse = (why: string) => new ClientError('invalid_value', why);

export class ProviderRecords {
  readonly #connection: HttpConnection;
  readonly #place: RecordPlace;

  constructor(connection: HttpConnection, place: RecordPlace) {
    this.#connection = connection;
    this.#place = place;
  }

  /**
   * Makes the record, without which no agent of the cluster seals anything; it begins with the primary version.
   * @returns that version
   * @throws ClientError invalid_value where there is one; the service's
   */
  async register(provider: string): Promise<number> {
    const { cluster, key } = this.#place;
    const found = await this.#read();
    if (providerLabel(cluster) in found.labels) {
      throw refuse(`The key ${key} has a provider of cluster ${cluster} already.`);
    }
    const { primary } = found;
    if (primary === null) throw refuse(`The key ${key} has no active version.`);
    await this.#write(found, { provider, announced: primary, retired: 0, proof: null });
    return primary;
  }

  /**
   * Closes the versions up to `keyVersion` for the provider.
   * @param proof SHA-256 of the snapshot in which none of their values was found, base64url
   * @throws ClientError invalid_value where the key is another, the provider has no record, or the version is
   *   announced yet; the service's
   */
  async retire({ keyId, keyVersion }: KeyReference, proof: string): Promise<void> {
    const { key, cluster } = this.#place;
    const found = await this.#read();
    if (found.id !== keyId) throw refuse(`The key_id is not of the key ${key}.`);
    const text = found.labels[providerLabel(cluster)];
    if (text === undefined) throw refuse(`The key ${key} has no provider of cluster ${cluster}.`);
    const record = parseRecord(text);
    if (keyVersion >= record.announced) {
      throw refuse(
        `Version ${String(record.announced)} is announced: only earlier ones are retired.`,
      );
    }
    if (keyVersion <= record.retired) throw refuse('These versions are retired already.');
    await this.#write(found, { ...record, retired: keyVersion, proof });
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

  async #write({ etag }: Found, record: ProviderRecord): Promise<void> {
    const { namespace, key, cluster } = this.#place;
    const labels = { [providerLabel(cluster)]: formatRecord(record) };
    await this.#connection.send({
      method: 'PATCH',
      path: `/v1/admin/keys/${encodeURIComponent(key)}`,
      accept: JSON_TYPE,
      contentType: JSON_TYPE,
      body: Buffer.from(JSON.stringify({ labels })),
      headers: { [`${NAME.header}Namespace`]: namespace, 'If-Match': etag },
    });
  }
}
