/** Templates with their slots filled, in Cedar's text form. */
import { policyToText, templateToJson } from '@cedar-policy/cedar-wasm/nodejs';
import type { TypeAndId } from '@cedar-policy/cedar-wasm/nodejs';
import { policyInvalid } from './policy-error.ts';
import { TEMPLATES } from './policies.ts';
import type { TemplateName } from './policies.ts';

/**
 * @param limit its `@limit` (`policy-limit.ts`); null: none
 * @throws PolicyInvalid for what Cedar cannot write, such as a name that is no well-formed text
 */
export function linkTemplate(
  template: TemplateName,
  principal: TypeAndId,
  resource: TypeAndId,
  limit: string | null = null,
): string {
  const text = TEMPLATES[template];
  const answer = templateToJson(text);
  if (answer.type === 'failure') throw policyInvalid(answer.errors, text);
  const made = policyToText({
    ...answer.json,
    principal: { op: 'in', entity: principal },
    resource: { op: 'in', entity: resource },
    ...(limit === null ? {} : { annotations: { limit } }),
  });
  if (made.type === 'failure') throw policyInvalid(made.errors, text);
  return made.text;
}
