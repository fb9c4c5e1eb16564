/** Keys of one worker: making them, and turning stored material into handles. */
import { TwofoldError } from '../errors.ts';
import { requireCheck, secretCheck } from './check-value.ts';
import type { Connection } from './connection.ts';
import { CKA, CKM } from './cryptoki.ts';
import type { Handle } from './cryptoki.ts';
import { failureOf, namesStaleHandle, tellsNothing, TokenFailure } from './failures.ts';
import { HandleCache } from './handle-cache.ts';
import type { KnownKey } from './handle-cache.ts';
import { deriveUnwrapping, refusal, requireKind, unwrapForeign } from './foreign-keys.ts';
import { uuidBytes, uuidText } from './inputs.ts';
import { findObjects, readAttribute, takeBytes } from './objects.ts';
import { pairMechanism, requirePublicKey } from './pairs.ts';
import type { HsmKey, HsmKeySpec, HsmMaterial, RootOnToken } from './port.ts';
import type { ToRewrap, TokenMaterial, WrappedImport, WrappedMaterial } from './port.ts';
import type { OperationOf, PostedKey } from './protocol.ts';
import { findRoot, isTrusted, wrapMechanism } from './roots.ts';
import { attributes, isPair, objectClass, privateTemplate, publicTemplate } from './templates.ts';
import type { PairSpec, Residence } from './templates.ts';

/** The PKCS#8 of an RSA-4096 key takes 2,384 bytes, wrapped; that of an EC key about 150. */
const BLOB_ROOM = 4096;

interface Made {
  readonly handle: Handle;
  /** The public key of a pair. */
  readonly point: Uint8Array | undefined;
}

export interface Root {
  readonly handle: Handle;
  readonly trusted: boolean;
}

/** A key was only named, and this worker holds no handle of it: it has to be sent whole. */
export class UnknownKey extends Error {
  override readonly name = 'UnknownKey';
}

export class Keys {
  readonly #connection: Connection;
  readonly #tokenKeyLabel: string;
  readonly #cache: HandleCache;
  readonly #roots = new Map<number, Root>();
  /** Taken for each key that is wrapped, and wiped as the blob is copied out. */
  readonly #blobRoom = Buffer.alloc(BLOB_ROOM);
  #root: RootOnToken | undefined;

  constructor(connection: Connection, handleLimit: number, tokenKeyLabel: string) {
    this.#connection = connection;
    this.#tokenKeyLabel = tokenKeyLabel;
    this.#cache = new HandleCache(handleLimit, (handle) => {
      connection.destroy(handle);
    });
  }

  /**
   * Found and judged before it is selected: a root that is not here, that `judge` throws at or that does not
   * open what was wrapped under it leaves the earlier one in force.
   */
  useRoot<Verdict>(
    root: RootOnToken,
    known: ToRewrap | undefined,
    judge: (found: Root) => Verdict,
  ): Verdict {
    const found = this.#load(root);
    const verdict = judge(found);
    if (known !== undefined) this.#requireOpens(found, known);
    this.#roots.clear();
    this.#roots.set(root.generation, found);
    this.#root = root;
    return verdict;
  }

  #requireOpens(root: Root, { spec, material }: ToRewrap): void {
    const handle = this.#unwrap(spec, material, 'unwrapped', root);
    try {
      requireCheck(this.#connection, spec, handle, material.check);
    } finally {
      this.#connection.destroy(handle);
    }
  }

  /**
   * Runs `use` with the key's handle; a handle that the token no longer knows is renewed once.
   * @throws UnknownKey when the key is only named and no handle of it is here
   */
  with<Result>(key: PostedKey, use: (handle: Handle, known: KnownKey) => Result): Result {
    const cached = this.#cache.get(key.id, this.#connection.tokenEpoch);
    if (cached === undefined) return this.#withResolved(key, use);
    try {
      return use(cached.handle, cached);
    } catch (error) {
      if (!namesStaleHandle(error)) throw error;
      this.forget(key.id);
      return this.#withResolved(key, use);
    }
  }

  #withResolved<Result>(key: PostedKey, use: (handle: Handle, known: KnownKey) => Result): Result {
    if (!('material' in key)) throw new UnknownKey();
    return use(this.#resolve(key), { spec: key.spec, check: key.material.check });
  }

  forget(id: string): void {
    this.#cache.forget(id, this.#connection.tokenEpoch);
  }

  generate(request: OperationOf<'generate'>): HsmMaterial {
    return request.custody === 'hsm-token'
      ? this.#makeTokenKey(request.spec, request.objectId ?? new Uint8Array())
      : this.#makeWrapped(request.spec);
  }

  importKey(spec: HsmKeySpec, wrapped: WrappedImport): WrappedMaterial {
    const root = this.#newest();
    const imported = this.#unwrapForeign(spec, wrapped, root.trusted);
    try {
      requireKind(this.#connection, spec, imported, wrapped);
      return this.#wrapped(spec, imported, root, wrapped.publicKey ?? undefined);
    } catch (error) {
      throw refusal(error, () => this.#wrapAndUnwrap(root));
    } finally {
      this.#connection.destroy(imported);
    }
  }

  #unwrapForeign(spec: HsmKeySpec, wrapped: WrappedImport, trusted: boolean): Handle {
    const importing = this.#resolve(wrapped.key);
    try {
      const unwrapping = deriveUnwrapping(this.#connection, importing, wrapped);
      try {
        return unwrapForeign(this.#connection, unwrapping, wrapped.blob, {
          template: privateTemplate(spec, { kind: 'imported', trusted }),
          control: () => this.#wrapAndUnwrap(this.#newest()),
        });
      } finally {
        this.#connection.destroy(unwrapping);
      }
    } finally {
      this.forget(wrapped.key.id);
    }
  }

  destroyTokenKey(material: TokenMaterial): void {
    if (material.tokenSerial !== this.#connection.serial) throw elsewhere();
    this.#connection.run((session, cryptoki) => {
      for (const object of this.#ownObjects(material.objectId)) {
        cryptoki.C_DestroyObject(session, object);
      }
    });
  }

  /** Objects of the installation's id; the label keeps foreign objects and roots out. */
  tokenKeys(installation: string): TokenMaterial[] {
    const prefix = uuidBytes(installation);
    return this.#connection.run((session, cryptoki) =>
      findObjects(
        cryptoki,
        session,
        attributes({ token: true, label: this.#tokenKeyLabel }),
      ).flatMap((object) => {
        const id = readAttribute(cryptoki, session, object, CKA.ID);
        return id?.subarray(0, 16).equals(prefix) === true ? [this.#tokenMaterial(id)] : [];
      }),
    );
  }

  #resolve(key: HsmKey): Handle {
    const { material } = key;
    const unwrapped = material.custody === 'hsm-wrapped';
    const handle = unwrapped
      ? this.#unwrap(key.spec, material)
      : this.#findTokenKey(key.spec, material);
    try {
      requireCheck(this.#connection, key.spec, handle, material.check);
    } catch (error) {
      if (unwrapped) this.#connection.destroy(handle);
      throw error;
    }
    const { tokenEpoch } = this.#connection;
    const {
      spec,
      material: { check },
    } = key;
    this.#cache.set(key.id, { handle, spec, check, tokenEpoch, unwrapped });
    return handle;
  }

  /** Into the keeper session: the object lives as long as that is open. */
  #unwrap(
    spec: HsmKeySpec,
    material: WrappedMaterial,
    kind: 'unwrapped' | 'to-be-rewrapped' = 'unwrapped',
    root = this.#rootOf(material.generation),
  ): Handle {
    try {
      return this.#unwrapOnce(spec, material, root, kind);
    } catch (error) {
      this.#requireAmbiguous(error, root);
    }
    try {
      return this.#unwrapOnce(spec, material, root, kind);
    } catch (error) {
      const failure = failureOf(error, 'unwrap');
      if (!tellsNothing(error)) throw new TokenFailure(failure);
      const altered = { code: 'integrity_failed', detail: 'a wrapped key does not open' } as const;
      throw new TokenFailure({ ...failure, ...altered, consequence: 'none' });
    }
  }

  #unwrapOnce(
    spec: HsmKeySpec,
    material: WrappedMaterial,
    root: Root,
    kind: 'unwrapped' | 'to-be-rewrapped',
  ): Handle {
    const { cryptoki, keeper } = this.#connection;
    const handle = cryptoki.C_UnwrapKey(
      keeper,
      { mechanism: wrapMechanism(this.#connection) },
      root.handle,
      Buffer.from(material.blob),
      privateTemplate(spec, { kind, trusted: root.trusted }),
    );
    this.#connection.objects += 1;
    return handle;
  }

  /**
   * A blob is ours, so one that does not open was altered (`integrity_failed`) or the token is at fault.
   * Tokens that answer both alike are given a control: a new key, wrapped and unwrapped. When that works,
   * the blob is tried once more, for the fault may have passed.
   *
   * @throws TokenFailure for a failure that is clear, or when the control fails too
   */
  #requireAmbiguous(error: unknown, root: Root): void {
    if (!tellsNothing(error)) throw new TokenFailure(failureOf(error, 'unwrap'));
    try {
      this.#wrapAndUnwrap(root);
    } catch (fault) {
      throw new TokenFailure(failureOf(fault, 'produce'));
    }
  }

  #wrapAndUnwrap({ handle: root, trusted }: Root): void {
    const spec: HsmKeySpec = { kind: 'aes', bits: 256 };
    const made = this.#make(spec, { kind: 'to-be-wrapped', trusted });
    try {
      const blob = Buffer.from(this.#wrap(root, made.handle));
      const mechanism = { mechanism: wrapMechanism(this.#connection) };
      const template = privateTemplate(spec, { kind: 'unwrapped', trusted });
      const copy = this.#connection.run((session, cryptoki) =>
        cryptoki.C_UnwrapKey(session, mechanism, root, blob, template),
      );
      this.#connection.objects += 1;
      this.#connection.destroy(copy);
    } finally {
      this.#connection.destroy(made.handle);
    }
  }

  #selected(): number {
    const generation = this.#root?.generation;
    if (generation !== undefined) return generation;
    throw new TwofoldError('zone_lacks_material', 'no root generation was selected');
  }

  #rootOf(generation: number): Root {
    const known = this.#roots.get(generation);
    if (known !== undefined) return known;
    if (this.#root === undefined) {
      throw new TwofoldError('zone_lacks_material', 'no root generation was selected');
    }
    const { installation } = this.#root;
    const root = this.#load({ installation, generation });
    this.#roots.set(generation, root);
    return root;
  }

  #load(root: RootOnToken): Root {
    const handle = findRoot(this.#connection, root);
    return { handle, trusted: isTrusted(this.#connection, handle) };
  }

  #findTokenKey(spec: HsmKeySpec, material: TokenMaterial): Handle {
    if (material.tokenSerial !== this.#connection.serial) throw elsewhere();
    const [handle, second] = this.#ownObjects(material.objectId, objectClass(spec));
    if (handle === undefined || second !== undefined) throw elsewhere();
    return handle;
  }

  #ownObjects(objectId: Uint8Array, ofClass?: number): Handle[] {
    const template = attributes({
      token: true,
      label: this.#tokenKeyLabel,
      id: Buffer.from(objectId),
      ...(ofClass === undefined ? {} : { class: ofClass }),
    });
    return this.#connection.run((session, cryptoki) => findObjects(cryptoki, session, template));
  }

  #makeTokenKey(spec: HsmKeySpec, objectId: Uint8Array): TokenMaterial {
    const made = this.#make(spec, { kind: 'token', objectId, label: this.#tokenKeyLabel });
    try {
      const check = made.point ?? secretCheck(this.#connection, spec, made.handle);
      requireCheck(this.#connection, spec, made.handle, check);
      return { ...this.#tokenMaterial(objectId), check };
    } catch (error) {
      this.#connection.destroy(made.handle);
      throw error;
    }
  }

  #makeWrapped(spec: HsmKeySpec): WrappedMaterial {
    const root = this.#newest();
    const made = this.#make(spec, { kind: 'to-be-wrapped', trusted: root.trusted });
    try {
      return this.#wrapped(spec, made.handle, root, made.point);
    } finally {
      this.#connection.destroy(made.handle);
    }
  }

  /** The root that wraps new keys. */
  #newest(): Root & { readonly generation: number } {
    const generation = this.#selected();
    return { ...this.#rootOf(generation), generation };
  }

  /** The stored blob is unwrapped and used before it is returned: what was made is what comes back. */
  #wrapped(
    spec: HsmKeySpec,
    handle: Handle,
    root: Root & { readonly generation: number },
    point: Uint8Array | undefined,
  ): WrappedMaterial {
    const check = point ?? secretCheck(this.#connection, spec, handle);
    const blob = this.#wrap(root.handle, handle);
    const { generation } = root;
    const material = { custody: 'hsm-wrapped', generation, blob, check } as const;
    const copy = this.#unwrap(spec, material);
    try {
      requireCheck(this.#connection, spec, copy, check);
    } finally {
      this.#connection.destroy(copy);
    }
    return material;
  }

  /**
   * The only call that unwraps keys extractable: for the time of it, and for a trusted root alone. What
   * leaves opens again as the same key.
   */
  rewrap({ spec, material }: ToRewrap): WrappedMaterial {
    const root = this.#newest();
    const handle = this.#unwrap(spec, material, 'to-be-rewrapped');
    try {
      const blob = this.#wrap(root.handle, handle);
      const { generation } = root;
      const rewrapped = {
        custody: 'hsm-wrapped',
        generation,
        blob,
        check: material.check,
      } as const;
      const copy = this.#unwrap(spec, rewrapped, 'to-be-rewrapped');
      try {
        if (!this.#isOf(material, copy)) {
          requireCheck(this.#connection, spec, copy, material.check);
        }
      } finally {
        this.#connection.destroy(copy);
      }
      return rewrapped;
    } finally {
      this.#connection.destroy(handle);
    }
  }

  /**
   * Whether this is the key of the blob, byte for byte: key wrap has no nonce, so one key under one root is
   * one blob. Costs half of what a use costs. False says nothing: a token may write PKCS #8 in more than one way.
   */
  #isOf({ generation, blob }: WrappedMaterial, handle: Handle): boolean {
    try {
      return Buffer.from(this.#wrap(this.#rootOf(generation).handle, handle)).equals(blob);
    } catch (error) {
      if (failureOf(error, 'make').consequence === 'lost') throw error;
      return false;
    }
  }

  #wrap(root: Handle, handle: Handle): Uint8Array {
    return this.#connection.run((session, cryptoki) => {
      const mechanism = { mechanism: wrapMechanism(this.#connection) };
      return takeBytes(cryptoki.C_WrapKey(session, mechanism, root, handle, this.#blobRoom));
    });
  }

  #make(spec: HsmKeySpec, residence: Residence): Made {
    return isPair(spec) ? this.#makePair(spec, residence) : this.#makeSecret(spec, residence);
  }

  #makeSecret(spec: HsmKeySpec, residence: Residence): Made {
    const mechanism = spec.kind === 'aes' ? CKM.AES_KEY_GEN : CKM.GENERIC_SECRET_KEY_GEN;
    const handle = this.#connection.run((session, cryptoki) =>
      cryptoki.C_GenerateKey(session, { mechanism }, privateTemplate(spec, residence)),
    );
    this.#connection.objects += 1;
    return { handle, point: undefined };
  }

  #makePair(spec: PairSpec, residence: Residence): Made {
    const mechanism = pairMechanism(this.#connection, spec);
    const pair = this.#connection.run((session, cryptoki) =>
      cryptoki.C_GenerateKeyPair(
        session,
        { mechanism },
        publicTemplate(spec),
        privateTemplate(spec, residence),
      ),
    );
    this.#connection.objects += 2;
    try {
      const point = requirePublicKey(this.#connection, spec, pair.publicKey);
      return { handle: pair.privateKey, point };
    } catch (error) {
      this.#connection.destroy(pair.privateKey);
      throw error;
    } finally {
      this.#connection.destroy(pair.publicKey);
    }
  }

  #tokenMaterial(objectId: Uint8Array): TokenMaterial {
    return {
      custody: 'hsm-token',
      tokenSerial: this.#connection.serial,
      installation: uuidText(objectId.subarray(0, 16)),
      objectId: Uint8Array.from(objectId),
      check: new Uint8Array(),
    };
  }
}

function elsewhere(): TwofoldError {
  return new TwofoldError('zone_lacks_material', 'the key lives on another token');
}
