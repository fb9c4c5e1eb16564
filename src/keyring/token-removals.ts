/**
 * Removal of token objects that destroyed versions had. The intent is written with the destruction and
 * its audit entry, the object goes after that is durable (promise P3), and the intent last: whatever is
 * left of this by a kill is done by the next start (`orphans.ts`).
 */
import { TwofoldError } from '../errors.ts';
import type { Hsm, TokenMaterial } from '../hsm/port.ts';
import { handleId } from './material.ts';
import type { KeyVersion } from './model.ts';
import type { KeyStore, KeyWrite } from './ports.ts';
import { attestIntent } from './row-mac.ts';
import type { RowMac } from './row-mac.ts';

export interface RemovalParts {
  readonly hsm: Hsm;
  readonly store: Pick<KeyStore, 'dropIntent'>;
  readonly mac: RowMac;
  /** UUID of this incarnation. */
  readonly instance: string;
  readonly clock: () => Date;
}

export interface Removal {
  readonly objects: number;
  /** The intents, for the transaction. */
  readonly writes: readonly KeyWrite[];
  /** After the commit. Never rejects: what it could not remove is owed. */
  readonly settle: () => Promise<void>;
}

export class TokenRemovals {
  readonly #parts: RemovalParts;
  /** By object id: what a committed destruction left on the token. */
  readonly #owed = new Map<string, TokenMaterial>();

  constructor(parts: RemovalParts) {
    this.#parts = parts;
  }

  /** Objects whose removal failed after their destruction was committed. */
  get owed(): number {
    return this.#owed.size;
  }

  /** @throws TwofoldError hsm_unavailable when there is an object and no token */
  async of(versions: readonly KeyVersion[]): Promise<Removal> {
    const materials = versions.flatMap(tokenMaterial);
    if (materials.length > 0) this.#requireToken();
    const writes = await Promise.all(materials.map((material) => this.#intent(material)));
    return { objects: materials.length, writes, settle: () => this.#settle(versions, materials) };
  }

  /** Tries again what is owed; answers how many objects still are. */
  async retry(): Promise<number> {
    for (const material of [...this.#owed.values()]) await this.#remove(material);
    return this.owed;
  }

  #requireToken(): void {
    const { ready, token } = this.#parts.hsm.status();
    if (!ready || token === null) throw new TwofoldError('hsm_unavailable');
  }

  async #intent({ objectId, installation, tokenSerial }: TokenMaterial): Promise<KeyWrite> {
    const { mac, instance, clock } = this.#parts;
    const intent = { objectId, installation, tokenSerial, instance, createdAt: clock() };
    return { kind: 'intend-removal', row: await attestIntent(mac, intent) };
  }

  async #settle(
    versions: readonly KeyVersion[],
    materials: readonly TokenMaterial[],
  ): Promise<void> {
    const { hsm } = this.#parts;
    const ids = versions.map(({ keyId, version }) => handleId(keyId, version));
    // A handle that cannot be forgotten now leaves by the bound of its cache, and is never reused.
    await Promise.allSettled(ids.map((id) => hsm.forget(id)));
    for (const material of materials) await this.#remove(material);
  }

  async #remove(material: TokenMaterial): Promise<void> {
    const { hsm, store } = this.#parts;
    const id = Buffer.from(material.objectId).toString('hex');
    // An object of another token goes when an instance at that token starts.
    if (hsm.status().token?.serial !== material.tokenSerial) return;
    try {
      await hsm.destroyTokenKey(material);
      await store.dropIntent(material.objectId);
      this.#owed.delete(id);
    } catch {
      // The intent stays, and with it the knowledge of what to remove.
      this.#owed.set(id, material);
    }
  }
}

function tokenMaterial(version: KeyVersion): readonly TokenMaterial[] {
  if (!('material' in version)) return [];
  const hsm = version.material.classical?.hsm;
  return hsm?.custody === 'hsm-token' ? [hsm] : [];
}
