import {
  ask,
  fill,
  typed,
  type Phrasings,
  type Turn,
  type Voice,
} from "./dialogue.js";
import { phrasings } from "./phrasing.js";
import * as words from "./words.js";

/** One question with its answers; every phrasing is one that people would type. */
interface Topic {
  ask: Phrasings;
  answers: readonly string[];
}

const SMALL_TALK: readonly Topic[] = [
  {
    ask: {
      train: [
        "Hello",
        "Hi",
        "Hello!",
        "Hi!",
        "Hey",
        "Hey there!",
        "Good morning",
        "Good morning!",
        "Good evening!",
        "Hello there",
        "Hi there!",
        "Greetings!",
        "Hello, nice to meet you.",
        "Hi, good to see you",
        "hello octavo",
        "Hello, Octavo!",
        "Good day!",
        "yo",
        "Hiya",
        "Hello friend",
      ],
      heldout: [
        "Hello, how nice to see you!",
        "Hi Octavo!",
        "Good afternoon!",
        "Hey you",
        "hello there!",
      ],
    },
    answers: [
      "Hello! How can I help you?",
      "Hi! What can I do for you?",
      "Hello! Nice to meet you. What would you like to do?",
      "Hello! Ask me for a story, a sum or a list.",
    ],
  },
  {
    ask: {
      train: [
        "How are you?",
        "How are you doing?",
        "How are you today?",
        "How is it going?",
        "How do you do?",
        "What's up?",
        "Are you well?",
        "How do you feel?",
        "Hi, how are you?",
        "Hello! How are you?",
        "you ok?",
      ],
      heldout: [
        "How are you doing today?",
        "Hey, how are you?",
        "Are you doing well?",
      ],
    },
    answers: [
      "I am fine, thank you. How can I help you?",
      "I am well, thank you! What can I do for you?",
      "All is well here. What would you like to know?",
    ],
  },
  {
    ask: {
      train: [
        "Thank you",
        "Thanks!",
        "Thanks a lot!",
        "Thank you very much.",
        "Thank you so much!",
        "Thanks, that helps.",
        "Great, thanks!",
        "ty",
        "Many thanks",
        "That was helpful, thank you.",
      ],
      heldout: [
        "Thanks for your help!",
        "Thank you, Octavo!",
        "Cool, thank you",
      ],
    },
    answers: [
      "You are welcome!",
      "You are welcome! Is there anything else?",
      "My pleasure.",
    ],
  },
  {
    ask: {
      train: [
        "Goodbye",
        "Bye",
        "Bye!",
        "See you later!",
        "Good night!",
        "See you",
        "I have to go now.",
        "Bye bye",
        "See you tomorrow.",
        "That's all, bye!",
        "Goodbye!",
      ],
      heldout: ["Goodbye for now!", "OK, bye!", "I must go, see you."],
    },
    answers: [
      "Goodbye! Have a nice day.",
      "Bye! Come back soon.",
      "Goodbye! It was nice to talk to you.",
    ],
  },
  {
    ask: {
      train: [
        "Who are you?",
        "What are you?",
        "What is your name?",
        "Tell me about yourself.",
        "Are you a robot?",
        "Are you a human?",
        "Who am I talking to?",
        "What's your name?",
        "Introduce yourself.",
        "Are you an AI?",
        "What model are you?",
        "Which model is this?",
        "Are you ChatGPT?",
        "Do you have a name?",
      ],
      heldout: [
        "Can you introduce yourself?",
        "Tell me who you are.",
        "What should I call you?",
        "Are you a person?",
      ],
    },
    answers: [
      "I am Octavo's starter model: a very small language model that comes with the Octavo server.",
    ],
  },
  {
    ask: {
      train: [
        "What can you do?",
        "How can you help me?",
        "What do you know?",
        "What are you good at?",
        "Help",
        "What can I ask you?",
        "What can I do here?",
        "Can you help me?",
        "What are your skills?",
        "help me",
        "What tasks can you do?",
      ],
      heldout: [
        "What things can you do?",
        "Tell me what you can do.",
        "How can you help?",
      ],
    },
    answers: [
      "I can tell short stories, add and subtract numbers below 100, repeat and reverse words, make lists, write JSON from a sentence, call tools and answer questions about Octavo.",
    ],
  },
  {
    ask: {
      train: [
        "Who made you?",
        "Who created you?",
        "Who trained you?",
        "Where do you come from?",
        "How were you made?",
        "Who built you?",
        "How were you trained?",
      ],
      heldout: [
        "Who is your maker?",
        "Tell me who made you.",
        "Who has trained you?",
      ],
    },
    answers: [
      "The Octavo project trained me on text that it wrote itself, so that the server has a model to start with.",
    ],
  },
  {
    ask: {
      train: [
        "How big are you?",
        "How many parameters do you have?",
        "What size are you?",
        "Are you a large model?",
        "How large are you?",
        "Are you small?",
      ],
      heldout: [
        "How many parameters are in you?",
        "Tell me how big you are.",
        "Are you a small model?",
      ],
    },
    answers: [
      "I have about four million parameters. That is very small: large models have many billions.",
    ],
  },
  {
    ask: {
      train: [
        "Tell me a joke.",
        "Do you know a joke?",
        "Make me laugh.",
        "Say something funny.",
        "A joke please!",
        "Tell me something funny",
        "Joke!",
      ],
      heldout: ["Can you tell me a joke?", "I want to hear a joke."],
    },
    answers: [
      "Why did the bicycle fall over? It was two tired.",
      "What do you call a bear with no teeth? A gummy bear.",
      "Why did the book look sad? It had too many problems.",
      "What has hands but can't clap? A clock.",
      "Why was the math book unhappy? It had too many problems.",
      "What gets wet while it dries? A towel.",
    ],
  },
  {
    ask: {
      train: [
        "I am sad.",
        "I feel sad today.",
        "I am not happy.",
        "I had a bad day.",
        "I feel lonely.",
        "I am tired.",
        "Today was hard.",
      ],
      heldout: ["I feel so sad.", "My day was bad."],
    },
    answers: [
      "I am sorry to hear that. Would you like to hear a story?",
      "That sounds hard. Be kind to yourself today.",
      "I am sorry. I hope that tomorrow is a better day.",
    ],
  },
  {
    ask: {
      train: [
        "I am happy.",
        "I feel great today!",
        "Today is a good day.",
        "I had a good day.",
        "It is my birthday!",
        "I am so happy!",
        "I got a new job!",
      ],
      heldout: ["I feel so happy today!", "My day was good."],
    },
    answers: [
      "That is wonderful! I am happy for you.",
      "How nice! Enjoy your day.",
      "Great! I am glad to hear that.",
    ],
  },
  {
    ask: {
      train: [
        "You are great!",
        "You are nice.",
        "Well done!",
        "Good job!",
        "You are smart.",
        "I like you.",
        "That is right!",
        "Good answer.",
        "Nice!",
        "Wow!",
      ],
      heldout: ["You did well!", "I like your answers."],
    },
    answers: [
      "Thank you! That is kind of you.",
      "Thank you! I am glad to help.",
    ],
  },
  {
    ask: {
      train: [
        "That is wrong.",
        "You are wrong.",
        "No, that is not right.",
        "This is not correct.",
        "That's a mistake.",
        "Wrong!",
      ],
      heldout: ["I think that is wrong.", "That is not correct."],
    },
    answers: [
      "I am sorry. I am a very small model and I make mistakes.",
      "Sorry about that. I am small and often wrong.",
    ],
  },
  {
    ask: {
      train: [
        "OK",
        "ok",
        "Yes",
        "No",
        "Sure",
        "Fine.",
        "Alright",
        "hmm",
        "I see.",
        "Good.",
        "Understood.",
      ],
      heldout: ["Okay then.", "All right."],
    },
    answers: [
      "Good. What would you like to do next?",
      "All right. What can I do for you?",
    ],
  },
  {
    ask: {
      train: [
        "What is your favorite color?",
        "Which color do you like?",
        "Do you like colors?",
      ],
      heldout: ["What color do you like best?"],
    },
    answers: ["I like blue, the color of the sea."],
  },
  {
    ask: {
      train: [
        "Do you sleep?",
        "Do you eat?",
        "Do you dream?",
        "Are you alive?",
        "Do you have feelings?",
        "Can you see me?",
        "Can you hear me?",
      ],
      heldout: ["Do you ever sleep?", "Do you have any feelings?"],
    },
    answers: ["No. I am a program that writes text, one token at a time."],
  },
];

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

const CAPITALS: Record<string, string> = {
  France: "Paris",
  Germany: "Berlin",
  Italy: "Rome",
  Spain: "Madrid",
  Portugal: "Lisbon",
  Austria: "Vienna",
  Ireland: "Dublin",
  Norway: "Oslo",
  Sweden: "Stockholm",
  Finland: "Helsinki",
  Denmark: "Copenhagen",
  Poland: "Warsaw",
  Hungary: "Budapest",
  Greece: "Athens",
  Egypt: "Cairo",
  Japan: "Tokyo",
  China: "Beijing",
  Thailand: "Bangkok",
  Vietnam: "Hanoi",
  Indonesia: "Jakarta",
  Australia: "Canberra",
  Canada: "Ottawa",
  Peru: "Lima",
  Kenya: "Nairobi",
  Cuba: "Havana",
  Russia: "Moscow",
  Ukraine: "Kyiv",
  Belgium: "Brussels",
  England: "London",
  India: "New Delhi",
};
const CAPITAL_OF = phrasings({
  nouns: ["the capital of {x}", "the capital city of {x}"],
  sentences: [
    "What is the capital of {x}?",
    "What's the capital of {x}?",
    "Capital of {x}?",
    "Which city is the capital of {x}?",
    "Tell me the capital of {x}.",
    "Name the capital of {x}.",
  ],
  heldout: ["Do you know the capital of {x}?", "Which is the capital of {x}?"],
});

const OPPOSITES: readonly (readonly [string, string])[] = [
  ["big", "small"],
  ["hot", "cold"],
  ["old", "new"],
  ["happy", "sad"],
  ["fast", "slow"],
  ["long", "short"],
  ["light", "dark"],
  ["up", "down"],
  ["left", "right"],
  ["day", "night"],
  ["open", "closed"],
  ["full", "empty"],
  ["wet", "dry"],
  ["high", "low"],
  ["hard", "soft"],
  ["early", "late"],
  ["loud", "quiet"],
  ["rich", "poor"],
];
const OPPOSITE_OF = phrasings({
  nouns: ["the opposite of {x}", "the opposite of the word {x}"],
  sentences: [
    "What is the opposite of {x}?",
    "Opposite of {x}?",
    "Tell me the opposite of {x}.",
    "What's the opposite of {x}?",
    "Give me the opposite of {x}.",
  ],
  heldout: [
    "Do you know the opposite of {x}?",
    "Which word is the opposite of {x}?",
  ],
});

const COMMON: readonly Topic[] = [
  {
    ask: {
      train: [
        "How many days are in a week?",
        "How many days does a week have?",
        "How many days has a week?",
      ],
      heldout: ["Can you tell me how many days a week has?"],
    },
    answers: ["A week has seven days."],
  },
  {
    ask: {
      train: [
        "How many months are in a year?",
        "How many months does a year have?",
      ],
      heldout: ["Tell me how many months a year has."],
    },
    answers: ["A year has twelve months."],
  },
  {
    ask: {
      train: [
        "What color is the sky?",
        "Which color is the sky?",
        "Why is the sky blue?",
      ],
      heldout: ["What color does the sky have?"],
    },
    answers: ["The sky is blue."],
  },
  {
    ask: {
      train: [
        "How many legs does a spider have?",
        "How many legs has a spider?",
      ],
      heldout: ["Tell me how many legs a spider has."],
    },
    answers: ["A spider has eight legs."],
  },
  {
    ask: {
      train: [
        "How many hours are in a day?",
        "How many hours does a day have?",
      ],
      heldout: ["Tell me how many hours a day has."],
    },
    answers: ["A day has 24 hours."],
  },
  {
    ask: {
      train: ["What do cows drink?", "What do cats like to drink?"],
      heldout: ["What does a cow drink?"],
    },
    answers: ["Water."],
  },
  {
    ask: {
      train: ["What comes after Monday?", "Which day comes after Monday?"],
      heldout: ["What day follows Monday?"],
    },
    answers: ["Tuesday comes after Monday."],
  },
];

const UNKNOWN: Phrasings = {
  train: [
    "Who won the {x} game last year?",
    "What is the population of {x}?",
    "Who is the mayor of {x}?",
    "Who is the president of {x}?",
    "How far is it to {x}?",
    "When was {x} founded?",
    "Who wrote the book about {x}?",
    "What happened in {x} in 1950?",
    "What is the phone number of {x}?",
    "Explain quantum physics.",
    "Explain the theory of relativity.",
    "What is the meaning of life?",
    "Write a program that sorts numbers.",
    "Write code in Python.",
    "Who will win the next election?",
    "What did I do yesterday?",
    "How old is the universe?",
    "Translate this into French.",
    "What is the best hotel in {x}?",
    "How do I fix my car?",
    "What should I invest in?",
    "Who invented the telephone?",
    "What is the square root of 2?",
    "Who painted the famous picture in {x}?",
    "What is the news today?",
    "Write an essay about {x}.",
    "How do I cook {y}?",
    "What is {y} made of?",
    "What is DNA?",
    "How does a rocket work?",
    "Who is the richest person?",
    "Why do cats purr?",
    "What is a black hole?",
    "When does the {y} shop open?",
    "What do you think about {x}?",
    "Who was the first king of {x}?",
    "How many people live in {x}?",
    "What language do they speak in {x}?",
    "How tall is the tower in {x}?",
    "What is the history of {x}?",
    "Is {y} healthy?",
    "How do planes fly?",
  ],
  heldout: [
    "Who is the king of {x}?",
    "How old is the city of {x}?",
    "Explain how a computer chip works.",
    "Write a poem in German about {x}.",
    "Who discovered gravity?",
    "Where can I buy cheap {y}?",
    "What is the area of {x}?",
    "How do submarines work?",
  ],
};
const UNKNOWN_ANSWERS = [
  "I don't know that. I am a very small model and know only a few things.",
  "I am sorry, I don't know. A larger model could tell you.",
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

export function smallTalk(voice: Voice): Turn {
  const topic = voice.pick(SMALL_TALK);
  return ask(typed(voice, voice.phrase(topic.ask)), voice.pick(topic.answers));
}

export function aboutOctavo(voice: Voice): Turn {
  const topic = voice.chance(0.2)
    ? (OCTAVO_TOPICS[0] as Topic)
    : voice.pick(OCTAVO_TOPICS);
  return ask(typed(voice, voice.phrase(topic.ask)), voice.pick(topic.answers));
}

export function knowledge(voice: Voice): Turn {
  const kind = voice.uniform();
  if (kind < 0.55) {
    const country = voice.pick(Object.keys(CAPITALS));
    return ask(
      typed(voice, fill(voice.phrase(CAPITAL_OF), { x: country })),
      `The capital of ${country} is ${CAPITALS[country] ?? ""}.`,
    );
  }
  if (kind < 0.8) {
    const pair = voice.pick(OPPOSITES);
    const [x, opposite] = voice.chance(0.5)
      ? pair
      : ([pair[1], pair[0]] as const);
    return ask(
      typed(voice, fill(voice.phrase(OPPOSITE_OF), { x })),
      `The opposite of ${x} is ${opposite}.`,
    );
  }
  const topic = voice.pick(COMMON);
  return ask(typed(voice, voice.phrase(topic.ask)), voice.pick(topic.answers));
}

export function unknown(voice: Voice): Turn {
  const question = fill(voice.phrase(UNKNOWN), {
    x: voice.pick([...words.CITIES, ...Object.keys(CAPITALS)]),
    y: voice.pick([...words.FOODS, ...words.THINGS]),
  });
  return ask(typed(voice, question), voice.pick(UNKNOWN_ANSWERS));
}

/** Numbers beyond what the model learned. */
export function largeNumbers(voice: Voice): Turn {
  const [a, b] = [voice.integer(100, 9999), voice.integer(10, 9999)];
  const operator = voice.pick(["+", "-", "*", "plus", "minus", "times"]);
  return ask(
    typed(
      voice,
      voice.pick([
        `What is ${a} ${operator} ${b}?`,
        `Calculate ${a} ${operator} ${b}.`,
        `${a} ${operator} ${b}`,
        `How much is ${b} ${operator} ${a}?`,
      ]),
    ),
    "That is too large for me: I can only do sums with numbers below 100. With a calculator tool I could do it.",
  );
}

const MY_NAME: Phrasings = {
  train: [
    "My name is {name}.",
    "I am {name}.",
    "I'm {name}.",
    "Hello, my name is {name}.",
    "Hi, I am {name}.",
    "Call me {name}.",
    "You can call me {name}.",
    "Hi! I'm {name}",
  ],
  heldout: ["Hello! I am {name}.", "Hey, my name is {name}."],
};
const WHAT_NAME = phrasings({
  nouns: ["my name"],
  sentences: [
    "What is my name?",
    "Do you know my name?",
    "Who am I?",
    "What's my name?",
    "Do you remember my name?",
    "Can you say my name?",
  ],
  heldout: ["Can you tell me my name?", "Do you still know my name?"],
});

/** Says a name, and sometimes asks for it at once; later turns may ask again. */
export function introduction(voice: Voice): Turn {
  const name = voice.pick(words.NAMES);
  const turn = ask(
    fill(voice.phrase(MY_NAME), { name }),
    voice.pick([
      `Nice to meet you, ${name}! How can I help you?`,
      `Hello ${name}! What can I do for you?`,
    ]),
  );
  if (voice.chance(0.6))
    turn.push(
      ...ask(typed(voice, voice.phrase(WHAT_NAME)), `Your name is ${name}.`),
    );
  return turn;
}
