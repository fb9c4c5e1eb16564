/**
 * A stored policy: Cedar text of its author's, or one of the roles given to a role or user. Its name is
 * the id by which decisions and audit entries know it.
 */
import { compilePolicy } from '../access/compiled-policy.ts';
import type { CompiledPolicy } from '../access/compiled-policy.ts';
import { linkTemplate } from '../access/link.ts';
import { TEMPLATE_NAMES } from '../access/policies.ts';
import type { TemplateName } from '../access/policies.ts';
import { TwofoldError } from '../errors.ts';
import type { JsonObject } from '../keyring/set-ports.ts';
import { readText, readTextOrNull } from './stored-json.ts';

/** Whom a template is linked to. */
export type LinkedPrincipal =
  { readonly role: string } | { readonly issuer: string; readonly subject: string };

export type PolicySource =
  | { readonly kind: 'cedar'; readonly text: string }
  | {
      readonly kind: 'template';
      readonly template: TemplateName;
      readonly principal: LinkedPrincipal;
      /** Name of the one key that it is about; null: the namespace and all that is in it. */
      readonly key: string | null;
      /** Of each principal that it admits, in the form of `@limit`; null: none. */
      readonly limit: string | null;
    };

export interface StoredPolicy {
  readonly description: string;
  readonly source: PolicySource;
}

export function policyToStored({ description, source }: StoredPolicy): JsonObject {
  if (source.kind === 'cedar') return { description, cedar: source.text };
  const { template, principal, key, limit } = source;
  const who = 'role' in principal ? [principal.role] : [principal.issuer, principal.subject];
  // Written where there is one alone, so that what was stored before keeps its form.
  const limited = limit === null ? {} : { limit };
  return { description, template, principal: who, key, ...limited };
}

export function policyFromStored(json: JsonObject): StoredPolicy {
  const description = readText(json, 'description');
  if (Object.hasOwn(json, 'cedar')) {
    return { description, source: { kind: 'cedar', text: readText(json, 'cedar') } };
  }
  const template = TEMPLATE_NAMES.find((name) => name === readText(json, 'template'));
  if (template === undefined) throw malformed('template');
  const principal = principalFrom(json['principal']);
  const key = readTextOrNull(json, 'key');
  const limit = Object.hasOwn(json, 'limit') ? readText(json, 'limit') : null;
  return { description, source: { kind: 'template', template, principal, key, limit } };
}

function principalFrom(value: JsonObject[string] | undefined): LinkedPrincipal {
  const [first, second, ...more] = Array.isArray(value) ? (value as readonly unknown[]) : [];
  if (typeof first !== 'string' || more.length > 0) throw malformed('principal');
  if (second === undefined) return { role: first };
  if (typeof second !== 'string') throw malformed('principal');
  return { issuer: first, subject: second };
}

const malformed = (member: string) =>
  new TwofoldError('integrity_failed', `A stored policy is malformed: ${member}.`);

/** The policy in Cedar's text form: of a link, the template with its slots filled. */
export function cedarText(namespace: string, source: PolicySource): string {
  if (source.kind === 'cedar') return source.text;
  const { template, principal, key, limit } = source;
  const who =
    'role' in principal
      ? { type: 'Role', id: principal.role }
      : { type: 'User', id: JSON.stringify([principal.issuer, principal.subject]) };
  const what = key === null ? { type: 'Namespace', id: namespace } : { type: 'Key', id: key };
  return linkTemplate(template, who, what, limit);
}

interface Compiled {
  readonly namespace: string;
  readonly policy: CompiledPolicy;
}

/** A stored policy never changes, and stays the same object in every later view of its set. */
const compiled = new WeakMap<StoredPolicy, Compiled>();

/** @throws PolicyInvalid */
export function compileStored(namespace: string, stored: StoredPolicy): CompiledPolicy {
  const known = compiled.get(stored);
  if (known?.namespace === namespace) return known.policy;
  const policy = compilePolicy(cedarText(namespace, stored.source));
  compiled.set(stored, { namespace, policy });
  return policy;
}
