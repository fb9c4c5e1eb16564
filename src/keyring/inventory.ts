/** Every software secret of the keyring, unsealed one by one: for `doctor secrets` alone. */
import type { SecretBytes } from '../crypto/secret.ts';
import type { KeyVersion } from './model.ts';
import type { KeyStore } from './ports.ts';
import type { Root } from './root.ts';

export interface SoftwareSecret {
  readonly name: string;
  /** The consumer's to wipe. */
  readonly secret: SecretBytes;
}

const PAGE = 200;
const NAMESPACE = 'default';

export async function* allSoftwareSecrets(
  store: KeyStore,
  root: Root,
): AsyncGenerator<SoftwareSecret> {
  const everything = { namePrefix: null, labels: {}, suite: null, state: null };
  for (let afterName: string | null = null; ;) {
    const query = { ...everything, namespace: NAMESPACE, pageSize: PAGE, afterName };
    const page = await store.list(query);
    for (const { key } of page.keys) {
      const { id, name } = key.value;
      const stored = await store.find(NAMESPACE, { id }, 0);
      for (const { value } of stored?.versions ?? []) yield* secretsOf(name, value, root);
    }
    if (page.next === null) return;
    afterName = page.next;
  }
}

async function* secretsOf(
  name: string,
  version: KeyVersion,
  root: Root,
): AsyncGenerator<SoftwareSecret> {
  if (!('material' in version)) return;
  const { pq, psk } = version.material;
  const binding = { keyId: version.keyId, version: version.version, suite: version.suite };
  const where = `${name} version ${String(version.version)}`;
  if (pq !== null) {
    const secret = await root.unseal(pq.half, { ...binding, part: 'pq' });
    yield { name: `seed of ${where}`, secret };
  }
  if (psk !== null) {
    const secret = await root.unseal(psk, { ...binding, part: 'psk' });
    yield { name: `psk of ${where}`, secret };
  }
}
