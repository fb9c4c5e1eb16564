/** Validation of policies that are to be stored: here, or in a thread (`validation-thread.ts`). */
import { readSchema } from './cedar-schema.ts';
import { validatePolicy } from './compiled-policy.ts';
import { SCHEMA } from './policies.ts';
import type { PolicyComplaint } from './policy-error.ts';

export interface PolicyValidation {
  /**
   * Holds one policy, in Cedar's text form, to the schema.
   * @throws PolicyInvalid; TwofoldError rate_limited, shutting_down, internal
   */
  validate(text: string, id: string): Promise<void>;
}

/** What a thread is given, and what it answers. */
export interface ValidationJob {
  readonly text: string;
  readonly id: string;
}
export type ValidationReply =
  | { readonly complaints: readonly PolicyComplaint[] }
  /** It failed otherwise: what of, for the log. */
  | { readonly error: string };

/** @throws PolicyInvalid */
export function validateHere({ text, id }: ValidationJob): void {
  validatePolicy(readSchema(SCHEMA), text, id);
}

/** In the thread of the caller, which it keeps from everything else for some 10 ms. */
export const VALIDATION_HERE: PolicyValidation = {
  validate: async (text, id) => {
    // What it throws is a rejection, as of a thread.
    await Promise.resolve();
    validateHere({ text, id });
  },
};
