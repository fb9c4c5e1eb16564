/**
 * Tokens that whoever operates the machine makes with the HSM's PIN (`twofold bootstrap`, `twofold
 * break-glass`): for the time before there are policies, and for the day on which they lock everybody out.
 *
 * They stand as sealed members of the root namespace, by their hash alone, so that only who can make a
 * MAC under `root-mac` makes one, and every instance knows of it and of its end at once (promise P5).
 */
import { TwofoldError } from '../errors.ts';
import { createHash, randomBytes, randomUUID } from 'node:crypto';

import type { Grant, Operation } from '../access/grant.ts';
import type { LocalKind, LocalStanding } from '../access/local-access.ts';
import { LOCAL_TOKEN_PREFIXES } from '../access/local-access.ts';
import { equalBytes } from '../crypto/bytes.ts';
import type { ChangeEvent } from '../keyring/events.ts';
import { checkReason } from '../keyring/names.ts';
import type { KeyWrite } from '../keyring/ports.ts';
import type { SetStore } from '../keyring/set-ports.ts';
import { ROOT_NAMESPACE } from './namespaces.ts';
import { SealedSet } from './sealed-set.ts';
import type { Member, SealedSetParts, SetDone, SetKind, SetRun, SetView } from './sealed-set.ts';
import { readText, readTime } from './stored-json.ts';

const TOKEN_BYTES = 32;
const LIFETIME_MS: Readonly<Record<LocalKind, number>> = {
  bootstrap: 30 * 60_000,
  'break-glass': 15 * 60_000,
};
/** Those that ended longer ago are dropped when another is made; the history keeps them. */
const SHOWN_MS = 30 * 86_400_000;
const MAX_TOKENS = 1_000;
/** The kind of the set of stored policies: once there is one, bootstrap is over. */
const POLICIES = 'policy';

export interface LocalToken {
  /** SHA-256 of the token, base64. */
  readonly hash: string;
  readonly namespace: string;
  readonly reason: string;
  /** Who ran the command, as the machine says. */
  readonly openedBy: string;
  readonly openedAt: Date;
  readonly expiresAt: Date;
  /** When a bootstrap token wrote the policies. */
  readonly usedAt: Date | null;
}

const setKind = (kind: LocalKind): SetKind<LocalToken> => ({
  kind,
  most: MAX_TOKENS,
  reach: 'installation',
  toJson: ({ hash, namespace, reason, openedBy, openedAt, expiresAt, usedAt }) => ({
    hash,
    namespace,
    reason,
    openedBy,
    openedAt: openedAt.toISOString(),
    expiresAt: expiresAt.toISOString(),
    usedAt: usedAt?.toISOString() ?? null,
  }),
  fromJson: (json) => ({
    hash: readText(json, 'hash'),
    namespace: readText(json, 'namespace'),
    reason: readText(json, 'reason'),
    openedBy: readText(json, 'openedBy'),
    openedAt: readTime(json, 'openedAt'),
    expiresAt: readTime(json, 'expiresAt'),
    usedAt: json['usedAt'] === null ? null : readTime(json, 'usedAt'),
  }),
  events: ({ changes }) => changes.flatMap((change) => openedEvent(kind, change.after)),
});

function openedEvent(kind: LocalKind, member: Member<LocalToken> | null): readonly ChangeEvent[] {
  if (member === null || member.value.usedAt !== null) return [];
  const { namespace, reason, expiresAt } = member.value;
  const data = { namespace, reason, expiresAt: expiresAt.toISOString(), by: member.by.subject };
  const type = `access.${kind}-opened` as const;
  return [{ n: 1, type, keyId: member.name, keyName: kind, data }];
}

const hashOf = (token: string): Uint8Array => createHash('sha256').update(token).digest();

const holderOf = ({ members }: SetView<LocalToken>, hash: Uint8Array) =>
  [...members.values()].find(({ value }) => equalBytes(Buffer.from(value.hash, 'base64'), hash));

export interface LocalTokenParts extends SealedSetParts {
  readonly sets: SetStore;
}

/** A token as lists show it. */
export interface ListedToken {
  readonly kind: LocalKind;
  readonly member: Member<LocalToken>;
  readonly state: 'open' | 'used' | 'expired';
}

export class LocalTokens {
  readonly #parts: LocalTokenParts;
  readonly #sets: Readonly<Record<LocalKind, SealedSet<LocalToken>>>;

  constructor(parts: LocalTokenParts) {
    this.#parts = parts;
    this.#sets = {
      bootstrap: new SealedSet(parts, setKind('bootstrap')),
      'break-glass': new SealedSet(parts, setKind('break-glass')),
    };
  }

  /** Whether policies are stored in the root namespace, so that nobody bootstraps any more. */
  async areRuled(): Promise<boolean> {
    const { sets, epoch } = this.#parts;
    return (await sets.set(POLICIES, ROOT_NAMESPACE, epoch.current)).seal !== null;
  }

  /** Makes a token, which is shown this once. */
  async open(
    grant: Grant<'bootstrap.open' | 'break-glass.open'>,
    {
      kind,
      namespace,
      reason,
    }: {
      readonly kind: LocalKind;
      readonly namespace: string;
      readonly reason: string;
    },
    run: SetRun<LocalToken>,
  ): Promise<{ readonly token: string; readonly done: SetDone<LocalToken> }> {
    checkReason(reason);
    const token = `${LOCAL_TOKEN_PREFIXES[kind]}${randomBytes(TOKEN_BYTES).toString('base64url')}`;
    const now = this.#parts.clock().getTime();
    const name = randomUUID();
    const value: LocalToken = {
      hash: Buffer.from(hashOf(token)).toString('base64'),
      namespace,
      reason,
      openedBy: grant.principal.subject,
      openedAt: new Date(now),
      expiresAt: new Date(now + LIFETIME_MS[kind]),
      usedAt: null,
    };
    const done = await this.#sets[kind].change(
      grant,
      run,
      ({ members }) => {
        const old = [...members.values()].filter(
          ({ value: { expiresAt } }) => expiresAt.getTime() < now - SHOWN_MS,
        );
        const entries = new Map([...old.map(({ name }) => [name, null] as const), [name, value]]);
        const expiresAt = value.expiresAt.toISOString();
        return { entries, detail: { kind, name, for: namespace, reason, expiresAt } };
      },
      ROOT_NAMESPACE,
    );
    return { token, done };
  }

  /** What a token opens now; null for one that is unknown, used, expired, or has no use any more. */
  async find(kind: LocalKind, token: string): Promise<LocalStanding | null> {
    const set = this.#sets[kind];
    const hash = hashOf(token);
    // One that was made a moment ago may be known to the database alone.
    const member =
      holderOf(await set.of(ROOT_NAMESPACE), hash) ??
      holderOf(await set.read(ROOT_NAMESPACE), hash);
    if (member === undefined || this.#stateOf(member) !== 'open') return null;
    if (kind === 'bootstrap' && (await this.areRuled())) return null;
    const { namespace, expiresAt } = member.value;
    return { kind, id: member.name, namespace, expiresAt };
  }

  /** Ends a bootstrap token, in the transaction of what it was for. @throws TwofoldError token_invalid */
  async spend(grant: Grant<Operation>, id: string): Promise<readonly KeyWrite[]> {
    const set = this.#sets.bootstrap;
    const view = await set.read(ROOT_NAMESPACE);
    const member = view.members.get(id);
    if (member === undefined) throw new TwofoldError('token_invalid');
    const entries = new Map([[id, { ...member.value, usedAt: this.#parts.clock() }]]);
    return set.writes(grant, ROOT_NAMESPACE, view, entries);
  }

  /** Those of the last 30 days that are about the namespace, or, asked for in the root, about any. */
  async list({ namespace }: Grant<'local-tokens.read'>): Promise<readonly ListedToken[]> {
    const all = await Promise.all(
      (['bootstrap', 'break-glass'] as const).map(async (kind) => {
        const { members } = await this.#sets[kind].of(ROOT_NAMESPACE);
        return [...members.values()].map((member) => ({
          kind,
          member,
          state: this.#stateOf(member),
        }));
      }),
    );
    return all
      .flat()
      .filter(({ member }) => namespace === ROOT_NAMESPACE || member.value.namespace === namespace);
  }

  /** Whether somebody has broken the glass just now, as far as is known without reading. */
  isGlassBroken(): boolean {
    const set = this.#sets['break-glass'];
    const view = set.known(ROOT_NAMESPACE);
    if (view === undefined) {
      // The next look knows; what stands in the way shows in the other checks.
      set.of(ROOT_NAMESPACE).catch(() => undefined);
      return false;
    }
    return [...view.members.values()].some((member) => this.#stateOf(member) === 'open');
  }

  #stateOf({ value: { expiresAt, usedAt } }: Member<LocalToken>): ListedToken['state'] {
    if (usedAt !== null) return 'used';
    return expiresAt.getTime() > this.#parts.clock().getTime() ? 'open' : 'expired';
  }
}
