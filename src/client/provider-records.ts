/** The record of a Kubernetes provider at its key, changed by its operator. */
import { keyResource } from '../contract/keys.ts';
import type { KeyReference } from '../crypto/envelope.ts';
import { formatRecord, parseRecord, providerLabel } from '../kubernetes/provider-record.ts';
import { NAME } from '../name.ts';
import { ClientError } from './client-error.ts';
import { JSON_TYPE, jsonOf, unexpected } from './http-connection.ts';
import type { HttpConnection } from './http-connection.ts';

export interface RecordPlace {
  readonly namespace: string;
  readonly key: string;
  readonly cluster: string;
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
   * Closes the versions up to `keyVersion` for the provider.
   * @param proof SHA-256 of the snapshot in which none of their values was found, base64url
   * @throws ClientError invalid_value where the key is another, the provider has no record, or the version is
   *   announced yet; the service's
   */
  async retire({ keyId, keyVersion }: KeyReference, proof: string): Promise<void> {
    const { namespace, key, cluster } = this.#place;
    const headers = { [`${NAME.header}Namespace`]: namespace };
    const path = `/v1/keys/${encodeURIComponent(key)}`;
    const { body, header } = await this.#connection.send({
      method: 'GET',
      path,
      accept: JSON_TYPE,
      headers,
    });
    const found = keyResource.safeParse(jsonOf(body));
    if (!found.success) throw unexpected('The answer is no key.');
    if (found.data.id !== keyId) throw refuse(`The key_id is not of the key ${key}.`);
    const text = found.data.labels[providerLabel(cluster)];
    if (text === undefined) throw refuse(`The key ${key} has no provider of cluster ${cluster}.`);
    const record = parseRecord(text);
    if (keyVersion >= record.announced) {
      throw refuse(
        `Version ${String(record.announced)} is announced: only earlier ones are retired.`,
      );
    }
    if (keyVersion <= record.retired) throw refuse('These versions are retired already.');
    const labels = {
      [providerLabel(cluster)]: formatRecord({ ...record, retired: keyVersion, proof }),
    };
    await this.#connection.send({
      method: 'PATCH',
      path: `/v1/admin/keys/${encodeURIComponent(key)}`,
      accept: JSON_TYPE,
      contentType: JSON_TYPE,
      body: Buffer.from(JSON.stringify({ labels })),
      headers: { ...headers, 'If-Match': header('etag') ?? '' },
    });
  }
}
