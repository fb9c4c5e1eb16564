/** What stands behind a provider, seen from its host: each endpoint, its clock, the key, and what may be done with it. */
import { randomBytes } from 'node:crypto';

import { HttpConnection } from '../../client/http-connection.ts';
import { KubernetesOverHttp } from '../../client/kubernetes-service.ts';
import { SecretBytes } from '../../crypto/secret.ts';
import { TwofoldError } from '../../errors.ts';
import { valueContext } from '../../kubernetes/key-management.ts';
import type { ProviderState } from '../../kubernetes/ports.ts';
import { NAME } from '../../name.ts';
import { SILENT } from '../silent-log.ts';
import type { Provider } from './agent.ts';
import { HostFiles } from './host-files.ts';

/** Adds one line for what `work` says or fails with. */
export type Look = (what: string, work: () => Promise<string> | string) => Promise<void>;

const CALL_MS = 5_000;
/** A token or certificate of minutes is refused, or taken for too long, by more. */
const MOST_SKEW_MS = 30_000;

const soon = () => AbortSignal.timeout(CALL_MS);

export async function lookAtService(provider: Provider, look: Look): Promise<void> {
  const files = await HostFiles.open(provider.files, SILENT);
  try {
    await look('identity', () => {
      const token = files.authorization();
      files.identity();
      return token === null ? 'a client certificate and its key' : 'a token';
    });
    let first: KeyAt | null = null;
    for (const url of provider.servers) {
      const keyId = await lookAt(url, first, { provider, files, look });
      if (keyId !== null) first ??= { keyId, origin: url.origin };
    }
  } finally {
    await files.close();
  }
}

/** What a server has as the key. */
interface KeyAt {
  readonly keyId: string;
  readonly origin: string;
}

/** @returns UUID of the key; null where that is not told */
async function lookAt(
  url: URL,
  first: KeyAt | null,
  {
    provider,
    files,
    look,
  }: { readonly provider: Provider; readonly files: HostFiles; readonly look: Look },
): Promise<string | null> {
  const connection = new HttpConnection({
    url,
    authorization: () => files.authorization(),
    identity: () => files.identity(),
  });
  const service = new KubernetesOverHttp({ ...provider, endpoints: [connection] });
  const at = (what: string) => `${what} at ${url.origin}`;
  try {
    await look(at('clock'), () => clockOf(connection, provider));
    let state: ProviderState | null = null;
    await look(at('key'), async () => {
      state = await service.state(soon());
      if (first !== null && first.keyId !== state.keyId) throw ofAnother(state, first);
      return describe(state);
    });
    const known = state as ProviderState | null;
    if (known !== null) await look(at('policy'), () => permitted(service, provider, known));
    return known?.keyId ?? null;
  } finally {
    service.close();
  }
}

const ofAnother = ({ keyId }: ProviderState, first: KeyAt) =>
  new TwofoldError(
    'invalid_value',
    `this is key ${keyId}, and ${first.origin} has ${first.keyId}: a server of another installation, which opens nothing of that one's.`,
  );

function describe({ keyId, keyName, announced, versions }: ProviderState): string {
  const states = versions.map(({ version, state }) => `${version} ${state}`);
  return `${keyName} (${keyId}), version ${announced} is announced; ${states.join(', ')}`;
}

/** By an answer about the key: the policy of an agent need not permit it anything else. */
async function clockOf(connection: HttpConnection, { key, namespace }: Provider): Promise<string> {
  const { header } = await connection.once({
    method: 'GET',
    path: `/v1/keys/${encodeURIComponent(key)}`,
    accept: 'application/json',
    headers: { [`${NAME.header}Namespace`]: namespace },
    signal: soon(),
  });
  const theirs = Date.parse(header('date') ?? '');
  if (Number.isNaN(theirs)) return 'the service does not say its time';
  const skew = Date.now() - theirs;
  if (Math.abs(skew) > MOST_SKEW_MS) {
    throw new TwofoldError(
      'invalid_value',
      `this host is ${Math.round(Math.abs(skew) / 1_000)} s ${skew > 0 ? 'ahead of' : 'behind'} the service: set its clock.`,
    );
  }
  return `within ${MOST_SKEW_MS / 1_000} s of the service`;
}

/** Both operations with this cluster's context, and neither with another's. */
async function permitted(
  service: KubernetesOverHttp,
  provider: Provider,
  { announced, keyName }: ProviderState,
): Promise<string> {
  const context = valueContext({ ...provider, key: keyName }, announced);
  using plaintext = SecretBytes.own(randomBytes(32));
  const call = { plaintext, keyVersion: announced, context, uid: null };
  const envelope = await service.wrap(call, soon());
  const { plaintext: opened } = await service.unwrap({ envelope, context, uid: null }, soon());
  opened.wipe();
  const other = { ...context, 'kubernetes/cluster': `not-${provider.cluster}` };
  const refusal = await service.wrap({ ...call, context: other }, soon()).then(
    () => null,
    (error: unknown) => error,
  );
  if (TwofoldError.is(refusal, 'forbidden')) return 'wraps and unwraps for this cluster alone';
  if (refusal !== null) throw TwofoldError.from(refusal);
  throw new TwofoldError(
    'invalid_value',
    'this identity may seal for other clusters too: bind it by a policy (docs/kubernetes.md).',
  );
}
