/**
 * A Cedar policy set, validated and ready to decide.
 *
 * Default is deny, and an error while a policy is evaluated denies too: Cedar skips a policy that
 * fails, which for a `forbid` would permit.
 */
import { createHash } from 'node:crypto';
import {
  policySetTextToParts,
  policyToJson,
  preparsePolicySet,
  preparseSchema,
  statefulIsAuthorized,
  validate,
} from '@cedar-policy/cedar-wasm/nodejs';
import type {
  AuthorizationAnswer,
  Context,
  DetailedError,
  EntityJson,
  PolicyJson,
  TypeAndId,
} from '@cedar-policy/cedar-wasm/nodejs';
import { TwofoldError } from '../errors.ts';
import type { Decision } from './grant.ts';

/** One question, in Cedar's terms. */
export interface Question {
  readonly principal: TypeAndId;
  readonly action: string;
  readonly resource: TypeAndId;
  readonly context: Context;
  readonly entities: EntityJson[];
}

export class PolicySet {
  /** The first 32 hex digits of SHA-256 over schema and policies. */
  readonly revision: string;
  /** Whether any policy looks at the context; where none does, body facts cannot change a decision. */
  readonly readsContext: boolean;

  private constructor(revision: string, readsContext: boolean) {
    this.revision = revision;
    this.readsContext = readsContext;
  }

  /**
   * Parses and validates strictly against the schema; validation warnings refuse it as well.
   *
   * @param policies static policies in Cedar's text form, each with a unique `@id`
   * @throws TwofoldError policy_invalid, with what Cedar says
   */
  static load(schema: string, policies: string): PolicySet {
    const parts = partsOf(policies);
    const byId: Record<string, string> = Object.fromEntries(
      parts.map(({ id, text }) => [id, text]),
    );
    if (Object.keys(byId).length !== parts.length) throw invalid('two policies have the same @id');
    checkValid(schema, byId);
    const revision = revisionOf(schema, policies);
    // Cedar keeps parsed sets by name; named by content, loading one again changes nothing.
    succeed(preparseSchema(revision, schema));
    succeed(preparsePolicySet(revision, { staticPolicies: byId }));
    return new PolicySet(
      revision,
      parts.some(({ json }) => JSON.stringify(json).includes('{"Var":"context"}')),
    );
  }

  decide(question: Question): Decision {
    const answer = this.#ask(question);
    if (answer.type === 'failure') return this.#denied([]);
    const { decision, diagnostics } = answer.response;
    const policies = diagnostics.reason.toSorted();
    if (decision !== 'allow' || diagnostics.errors.length > 0) return this.#denied(policies);
    return { allowed: true, revision: this.revision, policies };
  }

  #ask(question: Question): AuthorizationAnswer {
    try {
      return statefulIsAuthorized({
        principal: question.principal,
        action: { type: 'Action', id: question.action },
        resource: question.resource,
        context: question.context,
        entities: question.entities,
        preparsedSchemaName: this.revision,
        preparsedPolicySetId: this.revision,
        validateRequest: true,
      });
    } catch (error) {
      // Thrown for text that is no well-formed Unicode; a trap in Cedar itself is a fault of ours.
      if (error instanceof Error && error.name === 'RuntimeError') throw error;
      return { type: 'failure', errors: [], warnings: [] };
    }
  }

  #denied(policies: readonly string[]): Decision {
    return { allowed: false, revision: this.revision, policies };
  }
}

interface Part {
  readonly id: string;
  readonly text: string;
  readonly json: PolicyJson;
}

function partsOf(policies: string): readonly Part[] {
  const parts = policySetTextToParts(policies);
  if (parts.type === 'failure') throw invalid(messages(parts.errors));
  if (parts.policy_templates.length > 0) throw invalid('templates are not taken');
  return parts.policies.map((text) => {
    const parsed = policyToJson(text);
    if (parsed.type === 'failure') throw invalid(messages(parsed.errors));
    const id = parsed.json.annotations?.['id'];
    if (id === undefined || !/^[a-z0-9][a-z0-9._-]{0,127}$/u.test(id)) {
      throw invalid('a policy needs an @id of lower-case letters, digits, ".", "_" and "-"');
    }
    return { id, text, json: parsed.json };
  });
}

function checkValid(schema: string, staticPolicies: Record<string, string>): void {
  const answer = validate({
    validationSettings: { mode: 'strict' },
    schema,
    policies: { staticPolicies },
  });
  if (answer.type === 'failure') throw invalid(messages(answer.errors));
  const findings = [...answer.validationErrors, ...answer.validationWarnings];
  const found = [...findings.map(({ error }) => error), ...answer.otherWarnings];
  if (found.length > 0) throw invalid(messages(found));
}

/** Both lengths are hashed, so no two pairs have the same input. */
function revisionOf(schema: string, policies: string): string {
  const input = JSON.stringify([schema, policies]);
  return createHash('sha256').update(input).digest('hex').slice(0, 32);
}

function succeed(answer: { type: string; errors?: readonly DetailedError[] }): void {
  if (answer.type !== 'success') throw invalid(messages(answer.errors ?? []));
}

const invalid = (detail: string): TwofoldError => new TwofoldError('policy_invalid', detail);

const messages = (errors: readonly DetailedError[]): string =>
  errors.map(({ message }) => message).join('; ');
