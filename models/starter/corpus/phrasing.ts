import type { Phrasings } from "./dialogue.js";

/**
 * What may be asked for, in the grammatical forms that a request can take. A few words for each give hundreds of
 * phrasings, which is what makes a small model follow the meaning instead of the sentence.
 */
export interface Forms {
  /** "the weather in {city}" */
  nouns?: readonly string[];
  /** "what the weather is like in {city}" */
  clauses?: readonly string[];
  /** "set a timer for {minutes} minutes" */
  commands?: readonly string[];
  /** Whole sentences. */
  sentences?: readonly string[];
  /** Kept for the eval. */
  heldout: readonly string[];
}

const NOUN_LEADS = [
  "What is {}?",
  "What's {}?",
  "Tell me {}.",
  "Can you tell me {}?",
  "Could you tell me {}?",
  "Please tell me {}.",
  "Give me {}.",
  "Show me {}.",
  "I want to know {}.",
  "I would like to know {}.",
  "I need {}.",
  "I need to know {}.",
  "Do you know {}?",
  "Find {}.",
  "Find out {}.",
  "Let me know {}.",
  "Can you find {}?",
  "Can you give me {}?",
  "Would you tell me {}?",
  "Say {}.",
  "What would be {}?",
  "I am looking for {}.",
  "I have to know {}.",
  "{}?",
  "{}",
];
const CLAUSE_LEADS = [
  "Tell me {}.",
  "Can you tell me {}?",
  "Could you tell me {}?",
  "Please tell me {}.",
  "Do you know {}?",
  "I want to know {}.",
  "I would like to know {}.",
  "I wonder {}.",
  "I need to know {}.",
  "Find out {}.",
  "Let me know {}.",
  "Can you say {}?",
  "Can you find out {}?",
  "Say {}.",
  "I have no idea {}.",
  "Would you tell me {}?",
  "Please say {}.",
  "Do you happen to know {}?",
  "My friend asks {}.",
];
const COMMAND_LEADS = [
  "{}.",
  "Please {}.",
  "Can you {}?",
  "Could you {}?",
  "I want you to {}.",
  "Would you {}?",
  "{} please.",
  "Now {}.",
  "I would like you to {}.",
  "You should {}.",
  "Can you please {}?",
  "Could you please {}?",
  "{} for me.",
  "{} now.",
  "I need you to {}.",
  "Let's {}.",
  "Help me to {}.",
];

const capital = (text: string): string =>
  text.charAt(0).toUpperCase() + text.slice(1);

/** Every lead with every form; sentences are repeated so that the plain ways to ask stay the common ones. */
export function phrasings(forms: Forms): Phrasings {
  const sentences = forms.sentences ?? [];
  const made = [
    ...combined(NOUN_LEADS, forms.nouns),
    ...combined(CLAUSE_LEADS, forms.clauses),
    ...combined(COMMAND_LEADS, forms.commands),
  ];
  const repeats =
    sentences.length === 0
      ? 0
      : Math.max(1, Math.round(made.length / sentences.length / 2));
  const heldout = new Set(forms.heldout.map(plain));
  const train = [
    ...made,
    ...Array.from({ length: repeats }, () => sentences).flat(),
  ];
  return {
    train: train.filter((text) => !heldout.has(plain(text))),
    heldout: forms.heldout,
  };
}

function combined(
  leads: readonly string[],
  forms: readonly string[] = [],
): string[] {
  return leads.flatMap((lead) =>
    forms.map((form) => capital(lead.replace("{}", form))),
  );
}

/** Two phrasings are the same where only case and the last mark differ. */
function plain(text: string): string {
  return text.toLowerCase().replace(/[.?!:]$/, "");
}
