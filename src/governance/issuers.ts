/**
 * Issuers of tokens and of client certificates that a namespace let in for itself. Those of the root that
 * are shared are good in every namespace; what any other vouches for is worth nothing outside its own.
 */
import type { CertificateIssuerSettings } from '../access/certificate-issuer.ts';
import type { Grant } from '../access/grant.ts';
import type { IssuerSettings } from '../access/issuers.ts';
import { TOKEN_ALGORITHMS } from '../access/jwk-set.ts';
import type { TokenAlgorithm } from '../access/jwk-set.ts';
import type { RoleMapping } from '../access/role-mapping.ts';
import { TwofoldError } from '../errors.ts';
import type { Json, JsonObject } from '../keyring/set-ports.ts';
import {
  certificateIssuerFrom,
  certificateSettingsOf,
  checkBeside,
  vouchingSettings,
} from './certificate-issuers.ts';
import type { StoredCertificateIssuer } from './certificate-issuers.ts';
import { ROOT_NAMESPACE } from './namespaces.ts';
import { RootedSet } from './rooted-set.ts';
import { requireMatch } from './sealed-set.ts';
import type { Member, SealedSetParts, SetDone, SetRun, SetView } from './sealed-set.ts';
import {
  readBoolean,
  readIntegerOrNull,
  readText,
  readTextOrNull,
  readTexts,
} from './stored-json.ts';

const MAX_ISSUERS = 100;

export interface StoredTokenIssuer {
  readonly kind: 'oidc' | 'kubernetes';
  readonly issuer: string;
  readonly audience: string;
  readonly algorithms: readonly TokenAlgorithm[];
  readonly rolesClaim: string;
  /** At most one of the two; with neither the issuer is asked where its keys are. */
  readonly jwksUrl: string | null;
  /** JSON of a JWK Set. */
  readonly jwks: string | null;
  readonly ca: string | null;
  /** Empty: any key of the set. */
  readonly pinned: readonly string[];
  /** Seconds. */
  readonly maxLifetime: number | null;
  /** Seconds. */
  readonly clockTolerance: number | null;
  readonly roleMappings: readonly RoleMapping[];
  readonly shared: boolean;
}

export type StoredIssuer = StoredTokenIssuer | StoredCertificateIssuer;

/** As authentication takes it; `internal` are the hosts that may have internal addresses. */
export function settingsOf(stored: StoredTokenIssuer, internal: readonly string[]): IssuerSettings {
  const { kind, issuer, audience, algorithms, rolesClaim, roleMappings } = stored;
  const { jwks, jwksUrl, ca, pinned, maxLifetime, clockTolerance } = stored;
  return {
    ...{ kind, issuer, audience, algorithms, rolesClaim, roleMappings },
    internal,
    ...(jwks === null ? {} : { jwks: JSON.parse(jwks) as { readonly keys: readonly object[] } }),
    ...(jwksUrl === null ? {} : { jwksUrl }),
    ...(jwks === null && jwksUrl === null ? { discovery: true } : {}),
    ...(ca === null ? {} : { ca }),
    ...(pinned.length === 0 ? {} : { pinned }),
    ...(maxLifetime === null ? {} : { maxLifetime }),
    ...(clockTolerance === null ? {} : { clockTolerance }),
  };
}

const refuse = (detail: string) => new TwofoldError('invalid_value', detail);
const broken = (member: string) =>
  new TwofoldError('integrity_failed', `A stored issuer is malformed: ${member}.`);

function kindFrom(json: JsonObject): StoredIssuer['kind'] {
  const kind = readText(json, 'kind');
  if (kind === 'oidc' || kind === 'kubernetes' || kind === 'mtls') return kind;
  throw broken('kind');
}

const isAlgorithm = (name: string): name is TokenAlgorithm =>
  (TOKEN_ALGORITHMS as readonly string[]).includes(name);

function algorithmsFrom(json: JsonObject): readonly TokenAlgorithm[] {
  const names = readTexts(json, 'algorithms');
  if (!names.every(isAlgorithm)) throw broken('algorithms');
  return names;
}

function mappingsFrom(json: JsonObject): readonly RoleMapping[] {
  const mappings = json['roleMappings'];
  if (!Array.isArray(mappings)) throw broken('roleMappings');
  return (mappings as readonly Json[]).map((mapping) => {
    if (typeof mapping !== 'object' || mapping === null) throw broken('roleMappings');
    const members = mapping as JsonObject;
    return { subject: readText(members, 'subject'), roles: readTexts(members, 'roles') };
  });
}

function issuerFrom(json: JsonObject): StoredIssuer {
  const kind = kindFrom(json);
  if (kind === 'mtls') return certificateIssuerFrom(json, mappingsFrom(json));
  return {
    kind,
    issuer: readText(json, 'issuer'),
    audience: readText(json, 'audience'),
    algorithms: algorithmsFrom(json),
    rolesClaim: readText(json, 'rolesClaim'),
    jwksUrl: readTextOrNull(json, 'jwksUrl'),
    jwks: readTextOrNull(json, 'jwks'),
    ca: readTextOrNull(json, 'ca'),
    pinned: readTexts(json, 'pinned'),
    maxLifetime: readIntegerOrNull(json, 'maxLifetime'),
    clockTolerance: readIntegerOrNull(json, 'clockTolerance'),
    roleMappings: mappingsFrom(json),
    shared: readBoolean(json, 'shared'),
  };
}

const ISSUER = {
  kind: 'issuer',
  most: MAX_ISSUERS,
  toJson: (stored: StoredIssuer): JsonObject => ({
    ...stored,
    roleMappings: stored.roleMappings.map(({ subject, roles }) => ({ subject, roles })),
  }),
  fromJson: issuerFrom,
};

/** Of certificates: from another one the same text would name somebody else. */
const subjectOf = (stored: StoredIssuer) => (stored.kind === 'mtls' ? stored.subject : null);

type ChangeGrant = Grant<'issuers.change'>;
type ByIssuer = ReadonlyMap<string, Member<StoredIssuer>>;

/** A stored issuer, and the namespace that it is stored in. */
export interface FoundIssuer {
  readonly member: Member<StoredIssuer>;
  readonly namespace: string;
}

type Vouching = readonly CertificateIssuerSettings[];

export class StoredIssuers {
  readonly #sets: RootedSet<StoredIssuer>;
  readonly #indexes = new WeakMap<SetView<StoredIssuer>, ByIssuer>();
  /** Authorities are read once for each state of a set. */
  readonly #vouching = new WeakMap<SetView<StoredIssuer>, Vouching>();

  constructor(parts: SealedSetParts) {
    this.#sets = new RootedSet(parts, ISSUER);
  }

  /** Of the grant's namespace. */
  list({ namespace }: Grant<'issuers.read'> | ChangeGrant): Promise<SetView<StoredIssuer>> {
    return this.#sets.in(namespace).of(namespace);
  }

  /** The one whose tokens are good in a namespace: the shared one first. */
  async find(namespace: string, issuer: string): Promise<FoundIssuer | null> {
    const ofRoot = (await this.#index(ROOT_NAMESPACE)).get(issuer);
    if (ofRoot !== undefined && (ofRoot.value.shared || namespace === ROOT_NAMESPACE)) {
      return { member: ofRoot, namespace: ROOT_NAMESPACE };
    }
    if (namespace === ROOT_NAMESPACE) return null;
    const member = (await this.#index(namespace)).get(issuer);
    return member === undefined ? null : { member, namespace };
  }

  /** Whose client certificates are good in a namespace: the shared ones first, then its own. */
  async certificates(namespace: string): Promise<Vouching> {
    const ofRoot = this.#vouchingOf(await this.#view(ROOT_NAMESPACE), ROOT_NAMESPACE);
    if (namespace === ROOT_NAMESPACE) return ofRoot;
    const shared = ofRoot.filter((each) => each.namespace === undefined);
    const own = this.#vouchingOf(await this.#view(namespace), namespace);
    if (own.length === 0) return shared;
    // As with tokens, a shared issuer speaks under its name, and no other does.
    const root = await this.#index(ROOT_NAMESPACE);
    return [...shared, ...own.filter(({ issuer }) => root.get(issuer)?.value.shared !== true)];
  }

  /**
   * Lets an issuer in, or says anew how: which issuer a name stands for never changes.
   * @throws TwofoldError already_exists for an issuer that another name stands for, invalid_value,
   *   precondition_required, etag_mismatch, quota_exceeded
   */
  async put(
    grant: ChangeGrant,
    { name, value }: { readonly name: string; readonly value: StoredIssuer },
    run: SetRun<StoredIssuer>,
  ): Promise<SetDone<StoredIssuer>> {
    const { namespace } = grant;
    if (value.shared && namespace !== ROOT_NAMESPACE) {
      throw refuse(`Only issuers of ${ROOT_NAMESPACE} are shared.`);
    }
    return this.#sets.in(namespace).change(grant, run, async ({ members }) => {
      const before = members.get(name) ?? null;
      requireMatch(run, before);
      const { issuer, kind } = value;
      if (before !== null && (before.value.issuer !== issuer || before.value.kind !== kind)) {
        throw refuse('A name stands for one issuer of one kind: another one takes another name.');
      }
      if (before !== null && subjectOf(before.value) !== subjectOf(value)) {
        throw refuse('What an issuer takes its subjects from stays: remove it to admit it anew.');
      }
      const others = [...members.values()].filter((each) => each.name !== name);
      if (others.some((each) => each.value.issuer === issuer)) throw taken();
      const shared = await this.find(namespace, issuer);
      if (shared !== null && shared.namespace !== namespace) throw taken();
      if (value.kind === 'mtls') await this.#checkBeside(value, namespace, others);
      const detail = { kind: before === null ? 'admit' : 'change', name, issuer };
      return { entries: new Map([[name, value]]), detail };
    });
  }

  /** @throws TwofoldError not_found, etag_mismatch, would_lock_out for who comes by it */
  remove(
    grant: ChangeGrant,
    name: string,
    run: SetRun<StoredIssuer>,
  ): Promise<SetDone<StoredIssuer>> {
    return this.#sets.in(grant.namespace).change(grant, run, ({ members }) => {
      const before = members.get(name);
      if (before === undefined) throw new TwofoldError('not_found');
      if (run.ifMatch !== null) requireMatch(run, before);
      const { issuer } = before.value;
      if (issuer === grant.principal.issuer) {
        throw new TwofoldError('would_lock_out', 'It would end the tokens of who asks for it.');
      }
      return { entries: new Map([[name, null]]), detail: { kind: 'remove', name, issuer } };
    });
  }

  /** @param own the other issuers of the namespace */
  async #checkBeside(
    value: StoredCertificateIssuer,
    namespace: string,
    own: readonly Member<StoredIssuer>[],
  ): Promise<void> {
    const shared = namespace === ROOT_NAMESPACE ? [] : await this.certificates(ROOT_NAMESPACE);
    checkBeside(certificateSettingsOf(value, namespace), [
      ...shared.filter((each) => each.namespace === undefined),
      ...vouchingOf(own, namespace),
    ]);
  }

  async #view(namespace: string): Promise<SetView<StoredIssuer>> {
    const sets = this.#sets.in(namespace);
    return sets.known(namespace) ?? (await sets.of(namespace));
  }

  async #index(namespace: string): Promise<ByIssuer> {
    const view = await this.#view(namespace);
    const known = this.#indexes.get(view);
    if (known !== undefined) return known;
    const members = [...view.members.values()];
    const index = new Map(members.map((member) => [member.value.issuer, member]));
    this.#indexes.set(view, index);
    return index;
  }

  #vouchingOf(view: SetView<StoredIssuer>, namespace: string): Vouching {
    const known = this.#vouching.get(view);
    if (known !== undefined) return known;
    const vouching = vouchingOf([...view.members.values()], namespace);
    this.#vouching.set(view, vouching);
    return vouching;
  }
}

const vouchingOf = (members: readonly Member<StoredIssuer>[], namespace: string): Vouching =>
  members.flatMap(({ value }) =>
    value.kind === 'mtls' ? [vouchingSettings(value, namespace)] : [],
  );

export const taken = () =>
  new TwofoldError('already_exists', 'There is an issuer of this URL under another name.');
