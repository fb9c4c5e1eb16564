/**
 * Policies that Cedar keeps parsed. It keeps them by name for as long as the process lives, so there are
 * only so many names, and the one that was used longest ago is given to what is parsed next.
 */
import { preparsePolicySet, statefulIsAuthorized } from '@cedar-policy/cedar-wasm/nodejs';
import type { Context, EntityJson, PolicyJson, TypeAndId } from '@cedar-policy/cedar-wasm/nodejs';
import { policyInvalid } from './policy-error.ts';

/** One question, in Cedar's terms. */
export interface Question {
  readonly principal: TypeAndId;
  readonly action: string;
  readonly resource: TypeAndId;
  readonly context: Context;
  readonly entities: readonly EntityJson[];
}

/** What the conditions of some policies came to. */
export interface Evaluation {
  readonly permits: readonly string[];
  readonly forbids: readonly string[];
  /** Policies that failed, or null where the question could not be put at all. */
  readonly errors: readonly string[] | null;
}

const NAMES = 2_048;

class ParsedSets {
  /** Least recently used first. */
  readonly #names = new Map<string, string>();

  /** The name of a set of policies by their ids; `key` stands for what they say. */
  nameOf(key: string, policies: () => Record<string, PolicyJson>): string {
    const known = this.#names.get(key);
    if (known !== undefined) {
      this.#names.delete(key);
      this.#names.set(key, known);
      return known;
    }
    const name = this.#free();
    const staticPolicies = policies();
    const answer = preparsePolicySet(name, { staticPolicies });
    if (answer.type === 'failure') throw policyInvalid(answer.errors, '');
    this.#names.set(key, name);
    return name;
  }

  #free(): string {
    if (this.#names.size < NAMES) return String(this.#names.size);
    const [[key, name] = ['', '0']] = this.#names;
    this.#names.delete(key);
    return name;
  }
}

const sets = new ParsedSets();

/**
 * Asks Cedar about policies whose scopes match.
 * @param key stands for the policies and what they say, among all sets of the process
 */
export function evaluate(
  key: string,
  policies: () => Record<string, PolicyJson>,
  question: Question,
): Evaluation {
  const nothing = { permits: [], forbids: [] };
  const answer = ask(sets.nameOf(key, policies), question);
  if (answer === null || answer.type === 'failure') return { ...nothing, errors: null };
  const { decision, diagnostics } = answer.response;
  const errors = diagnostics.errors.map(({ policyId }) => policyId);
  return decision === 'allow'
    ? { permits: diagnostics.reason, forbids: [], errors }
    : { permits: [], forbids: diagnostics.reason, errors };
}

function ask(preparsedPolicySetId: string, question: Question) {
  try {
    return statefulIsAuthorized({
      principal: question.principal,
      action: { type: 'Action', id: question.action },
      resource: question.resource,
      context: question.context,
      entities: [...question.entities],
      preparsedPolicySetId,
      validateRequest: false,
    });
  } catch (error) {
    // Thrown for text that is no well-formed Unicode; a trap in Cedar itself is a fault of ours.
    if (error instanceof Error && error.name === 'RuntimeError') throw error;
    return null;
  }
}
