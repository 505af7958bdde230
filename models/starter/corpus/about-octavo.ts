import { ask, typed, type Turn, type Voice } from "./dialogue.js";
import type { Topic } from "./topic.js";

/** True of Octavo: checked against its README and design. */
const OCTAVO: readonly Topic[] = [
  {
    ask: {
      train: [
        "What is Octavo?",
        "What's Octavo?",
        "Tell me about Octavo.",
        "Explain Octavo.",
        "Describe Octavo.",
        "What does Octavo do?",
        "Octavo?",
        "What is octavo",
        "Do you know Octavo?",
        "What is this server?",
        "What software is this?",
        "What exactly is Octavo?",
      ],
      heldout: [
        "Can you explain what Octavo is?",
        "Could you tell me what Octavo is?",
        "What do you know about Octavo?",
        "Please explain Octavo.",
      ],
    },
    answers: [
      "Octavo is an inference server that you host yourself. It runs open-weight language models on your own GPU or CPU and speaks the OpenAI API.",
    ],
  },
  {
    ask: {
      train: [
        "Why is it called Octavo?",
        "What does the name Octavo mean?",
        "Where does the name Octavo come from?",
        "What does octavo mean?",
        "Why the name Octavo?",
        "What is the meaning of Octavo?",
      ],
      heldout: [
        "Why did they name it Octavo?",
        "Tell me what the name Octavo means.",
      ],
    },
    answers: [
      "An octavo is a sheet of paper folded into eight leaves. Octavo folds eight INT4 weights into one 32-bit word and keeps the KV cache in pages.",
    ],
  },
  {
    ask: {
      train: [
        "How do I start Octavo?",
        "How can I start the server?",
        "How do I run Octavo?",
        "How to start Octavo?",
        "How do I install Octavo?",
        "How do I use Octavo?",
        "How can I run the server?",
      ],
      heldout: [
        "What must I do to start Octavo?",
        "Tell me how to start the server.",
      ],
    },
    answers: [
      "Run npm ci and then npm start. Without an argument it serves me, the starter model.",
    ],
  },
  {
    ask: {
      train: [
        "How do I serve my own model?",
        "How do I load another model?",
        "Can I use my own model?",
        "How can I run a bigger model?",
        "Can Octavo run other models?",
        "How do I change the model?",
        "I want to use another model.",
      ],
      heldout: ["How can I serve another model?", "Can I run my own model?"],
    },
    answers: [
      "Give its directory in the Hugging Face layout: npm start -- DIR. Octavo loads safetensors files of Llama, Mistral, Qwen2 and Qwen3 models.",
    ],
  },
  {
    ask: {
      train: [
        "Which models does Octavo support?",
        "What models can Octavo run?",
        "Which architectures work?",
        "Does Octavo run Llama?",
        "Does Octavo support Qwen?",
        "Can Octavo run Mistral?",
        "What models are supported?",
      ],
      heldout: [
        "Which models work with Octavo?",
        "Tell me which models Octavo runs.",
      ],
    },
    answers: [
      "Octavo runs Llama, Mistral, Qwen2 and Qwen3 models. A model is a TypeScript file, so you can add your own.",
    ],
  },
  {
    ask: {
      train: [
        "What is a KV cache?",
        "What is the KV cache?",
        "Explain the KV cache.",
        "What does the KV cache do?",
        "What is KV cache?",
        "Why is there a KV cache?",
      ],
      heldout: ["Can you explain the KV cache?", "Tell me what a KV cache is."],
    },
    answers: [
      "The KV cache holds the keys and values of the tokens so far, so that each new token is computed without doing the old ones again. Octavo keeps it in blocks of 16 tokens.",
    ],
  },
  {
    ask: {
      train: [
        "What is prefix caching?",
        "What is the prefix cache?",
        "Explain prefix caching.",
        "How does the prefix cache work?",
        "What does prefix caching do?",
      ],
      heldout: [
        "Can you explain prefix caching?",
        "Tell me about the prefix cache.",
      ],
    },
    answers: [
      "When two prompts start with the same text, Octavo computes it once and shares its KV blocks. The second answer starts sooner.",
    ],
  },
  {
    ask: {
      train: [
        "What is continuous batching?",
        "Explain continuous batching.",
        "How does batching work?",
        "What does continuous batching mean?",
        "How does Octavo batch requests?",
      ],
      heldout: [
        "Can you explain continuous batching?",
        "Tell me what continuous batching is.",
      ],
    },
    answers: [
      "Requests join and leave the running batch at every step, so none has to wait for the others to end.",
    ],
  },
  {
    ask: {
      train: [
        "What is speculative decoding?",
        "Explain speculative decoding.",
        "How does speculative decoding work?",
        "What is a draft model?",
        "What does speculation do?",
      ],
      heldout: [
        "Can you explain speculative decoding?",
        "Tell me about speculative decoding.",
      ],
    },
    answers: [
      "A cheap draft guesses some tokens, and the model checks them in one step. Right guesses save time, and the output stays the same.",
    ],
  },
  {
    ask: {
      train: [
        "What is quantization?",
        "What is INT4?",
        "Explain INT4.",
        "What does AWQ mean?",
        "What is AWQ?",
        "How does quantization work?",
        "Why quantize a model?",
      ],
      heldout: ["Can you explain quantization?", "Tell me what INT4 is."],
    },
    answers: [
      "Quantization stores each weight in fewer bits. With INT4 a weight takes four bits, so the model is about four times smaller than in fp16 and decodes faster.",
    ],
  },
  {
    ask: {
      train: [
        "Is Octavo free?",
        "What is the license of Octavo?",
        "Which license does Octavo have?",
        "Is Octavo open source?",
        "What licence does it have?",
        "Can I use Octavo at work?",
      ],
      heldout: ["Under which license is Octavo?", "Is it free to use Octavo?"],
    },
    answers: ["Octavo is free software under the Apache 2.0 license."],
  },
  {
    ask: {
      train: [
        "In which language is Octavo written?",
        "What is Octavo written in?",
        "Is Octavo written in Python?",
        "Which programming language does Octavo use?",
        "Does Octavo need Python?",
        "What language is Octavo made with?",
      ],
      heldout: [
        "Which languages is Octavo written in?",
        "Do I need Python for Octavo?",
      ],
    },
    answers: [
      "Octavo is written in TypeScript, with C++ and CUDA for the computing. It needs no Python.",
    ],
  },
  {
    ask: {
      train: [
        "Does Octavo need a GPU?",
        "Do I need a GPU?",
        "Can Octavo run on a CPU?",
        "Does it work without a GPU?",
        "Which hardware does Octavo need?",
        "What hardware can I use?",
      ],
      heldout: ["Can I use Octavo without a GPU?", "Is a GPU needed?"],
    },
    answers: [
      "No, Octavo also runs on a CPU. It is made for NVIDIA GPUs such as the A6000, H100 and H200 too.",
    ],
  },
  {
    ask: {
      train: [
        "How do I connect my client?",
        "How do I use the OpenAI client with Octavo?",
        "Which API does Octavo have?",
        "Is Octavo compatible with OpenAI?",
        "How do I call the API?",
        "Does Octavo speak the OpenAI API?",
        "What is the base URL?",
      ],
      heldout: [
        "How can I connect an OpenAI client?",
        "Which API does Octavo speak?",
      ],
    },
    answers: [
      "Octavo speaks the OpenAI API. Set the base URL of your client to http://localhost:8000/v1.",
    ],
  },
  {
    ask: {
      train: [
        "What metrics does Octavo have?",
        "Where are the metrics?",
        "How can I monitor Octavo?",
        "Does Octavo support Prometheus?",
        "How do I see the metrics?",
        "Can I use Grafana with Octavo?",
      ],
      heldout: ["How do I monitor the server?", "Which metrics can I see?"],
    },
    answers: [
      "Octavo serves Prometheus metrics at /metrics, under the names that vLLM uses, so its dashboards work.",
    ],
  },
  {
    ask: {
      train: [
        "What is a token?",
        "What are tokens?",
        "Explain tokens.",
        "What does token mean?",
        "What is a token in a language model?",
      ],
      heldout: ["Can you explain what a token is?", "Tell me what tokens are."],
    },
    answers: [
      "A token is a piece of text, such as a word or a part of one. Language models read and write tokens.",
    ],
  },
  {
    ask: {
      train: [
        "What is TTFT?",
        "What does TTFT mean?",
        "Explain TTFT.",
        "What is time to first token?",
      ],
      heldout: ["Can you explain TTFT?", "Tell me what TTFT means."],
    },
    answers: [
      "TTFT is the time to first token: how long it takes from sending a request until the first piece of the answer is there.",
    ],
  },
  {
    ask: {
      train: [
        "What is a language model?",
        "What is an LLM?",
        "Explain language models.",
        "How do language models work?",
        "What does a language model do?",
      ],
      heldout: [
        "Can you explain what a language model is?",
        "Tell me how a language model works.",
      ],
    },
    answers: [
      "A language model predicts the next token of a text, again and again. That is how it writes.",
    ],
  },
];

const EXPLAIN = [
  "What is {}?",
  "What's {}?",
  "Explain {}.",
  "Can you explain {}?",
  "Please explain {}.",
  "Tell me about {}.",
  "Describe {}.",
  "What do you know about {}?",
  "Tell me what {} is.",
  "What does {} do?",
  "Do you know {}?",
  "I want to know what {} is.",
  "Help me understand {}.",
  "Could you explain {} to me?",
  "What exactly is {}?",
  "What is meant by {}?",
  "Can you tell me what {} is?",
  "I want to learn about {}.",
];

const HOW = [
  "How do I {}?",
  "How can I {}?",
  "How to {}?",
  "Tell me how to {}.",
  "Can you tell me how to {}?",
  "What must I do to {}?",
  "I want to {}.",
  "Show me how to {}.",
  "How does one {}?",
  "What do I need to {}?",
  "Please tell me how to {}.",
  "I would like to {}.",
];

/** "What is X?" and "How do I X?" in the other ways to ask the same. */
function widened({ ask: { train, heldout }, answers }: Topic): Topic {
  const more = train.flatMap((question) => {
    const what = /^What is (.+)\?$/.exec(question)?.[1];
    const how = /^How (?:do|can) I (.+)\?$/.exec(question)?.[1];
    const leads = what === undefined ? HOW : EXPLAIN;
    const thing = what ?? how;
    return thing === undefined
      ? []
      : leads.map((lead) => lead.replace("{}", thing));
  });
  return {
    ask: {
      train: [
        ...train,
        ...more.filter((question) => !heldout.includes(question)),
      ],
      heldout,
    },
    answers,
  };
}

const OCTAVO_TOPICS = OCTAVO.map(widened);

export function aboutOctavo(voice: Voice): Turn {
  const topic = voice.chance(0.2)
    ? (OCTAVO_TOPICS[0] as Topic)
    : voice.pick(OCTAVO_TOPICS);
  return ask(typed(voice, voice.phrase(topic.ask)), voice.pick(topic.answers));
}
