import type { Phrasings, Voice } from "./dialogue.js";
import { phrasings } from "./phrasing.js";
import * as words from "./words.js";

export type Arguments = Record<string, string | number>;

/** A tool under several names, with ways to ask for it and what is said of its result. */
export interface Family {
  names: readonly string[];
  descriptions: readonly string[];
  /** Parameter -> the names it may have, JSON Schema type and description. */
  parameters: Record<
    string,
    {
      names: readonly string[];
      type: "string" | "integer";
      description: string;
    }
  >;
  draw: (voice: Voice) => Arguments;
  requests: Phrasings;
  /** Asked right after an answer, with everything else unchanged. */
  followUps?: readonly string[];
  result: (voice: Voice, given: Arguments) => Record<string, string | number>;
  say: (given: Arguments, result: Record<string, string | number>) => string;
}

export const FAMILIES: readonly Family[] = [
  {
    names: ["get_weather", "weather", "get_current_weather", "current_weather"],
    descriptions: [
      "Get the weather in a city",
      "The current weather of a city",
      "Returns the weather for a place",
    ],
    parameters: {
      city: {
        names: ["city", "location", "place"],
        type: "string",
        description: "Name of the city",
      },
    },
    draw: (voice) => ({ city: voice.pick(words.CITIES) }),
    requests: phrasings({
      nouns: [
        "the weather in {city}",
        "the temperature in {city}",
        "the current weather in {city}",
        "the weather for {city}",
        "the weather of today in {city}",
      ],
      clauses: [
        "what the weather is like in {city}",
        "how the weather is in {city}",
        "how warm it is in {city}",
        "how cold it is in {city}",
        "if it is raining in {city}",
        "if it rains in {city}",
        "whether it is sunny in {city}",
        "how hot it is in {city}",
      ],
      commands: [
        "check the weather in {city}",
        "look up the weather in {city}",
        "get the weather in {city}",
        "find the weather for {city}",
        "check how warm it is in {city}",
      ],
      sentences: [
        "What is the weather in {city}?",
        "What's the weather like in {city}?",
        "How is the weather in {city}?",
        "Weather in {city}",
        "Tell me the weather in {city}.",
        "Is it raining in {city}?",
        "Is it cold in {city}?",
        "Is it sunny in {city} today?",
        "How warm is it in {city}?",
        "What is the temperature in {city}?",
        "Do I need an umbrella in {city}?",
        "Check the weather in {city}.",
        "Can you look up the weather in {city}?",
        "I am going to {city}. How is the weather there?",
        "How hot is it in {city} now?",
      ],
      heldout: [
        "Can you check the weather in {city}?",
        "What will I find for weather in {city}?",
        "Is it warm in {city}?",
        "Please tell me how the weather is in {city}.",
      ],
    }),
    followUps: [
      "And in {city}?",
      "What about {city}?",
      "And {city}?",
      "How about {city}?",
    ],
    result: (voice) => ({
      temperature: voice.integer(-5, 35),
      condition: voice.pick([
        "sunny",
        "cloudy",
        "rainy",
        "windy",
        "snowy",
        "foggy",
        "clear",
      ]),
    }),
    say: (given, result) =>
      `It is ${result.temperature} degrees and ${result.condition} in ${given.city}.`,
  },
  {
    names: ["calculator", "calculate", "compute"],
    descriptions: [
      "Calculate the value of an expression",
      "A calculator",
      "Evaluates an arithmetic expression",
    ],
    parameters: {
      expression: {
        names: ["expression", "expression", "formula"],
        type: "string",
        description: "The expression, such as 3 * 4",
      },
    },
    draw: (voice) => {
      const operator = voice.pick(["+", "-", "*", "/"]);
      const a = voice.integer(2, 999);
      const b = voice.integer(
        2,
        operator === "/" || operator === "*" ? 99 : 999,
      );
      return { expression: `${a} ${operator} ${b}` };
    },
    requests: phrasings({
      nouns: [
        "{expression}",
        "the result of {expression}",
        "the value of {expression}",
      ],
      clauses: [
        "how much {expression} is",
        "what {expression} is",
        "what {expression} makes",
      ],
      commands: [
        "calculate {expression}",
        "compute {expression}",
        "work out {expression}",
        "solve {expression}",
        "use the calculator for {expression}",
        "evaluate {expression}",
      ],
      sentences: [
        "What is {expression}?",
        "Calculate {expression}.",
        "How much is {expression}?",
        "Compute {expression}.",
        "{expression}",
        "{expression} = ?",
        "Use the calculator for {expression}.",
        "Please calculate {expression}.",
        "What's {expression}?",
        "Tell me {expression}.",
        "Can you work out {expression}?",
        "Solve {expression}.",
      ],
      heldout: [
        "Can you calculate {expression}?",
        "Please compute {expression}.",
        "I want to know {expression}.",
        "How much does {expression} make?",
      ],
    }),
    followUps: ["And {expression}?", "What about {expression}?"],
    result: (_, given) => {
      const [a = "0", operator = "+", b = "1"] = String(given.expression).split(
        " ",
      );
      const [x, y] = [Number(a), Number(b)];
      const value =
        operator === "+"
          ? x + y
          : operator === "-"
            ? x - y
            : operator === "*"
              ? x * y
              : Math.round((x / y) * 100) / 100;
      return { result: value };
    },
    say: (given, result) => `${given.expression} = ${result.result}.`,
  },
  {
    names: ["get_time", "clock", "current_time", "get_current_time"],
    descriptions: [
      "Get the time in a city",
      "The current time of a city",
      "Tells what time it is in a place",
    ],
    parameters: {
      city: {
        names: ["city", "timezone", "location"],
        type: "string",
        description: "Name of the city",
      },
    },
    draw: (voice) => ({ city: voice.pick(words.CITIES) }),
    requests: phrasings({
      nouns: [
        "the time in {city}",
        "the current time in {city}",
        "the local time in {city}",
        "the hour in {city}",
      ],
      clauses: [
        "what time it is in {city}",
        "how late it is in {city}",
        "what the time is in {city}",
        "which time it is in {city}",
        "what the clock says in {city}",
      ],
      commands: [
        "check the time in {city}",
        "look up the time in {city}",
        "get the time in {city}",
        "look at the clock in {city}",
      ],
      sentences: [
        "What time is it in {city}?",
        "What's the time in {city}?",
        "Tell me the time in {city}.",
        "Time in {city}",
        "How late is it in {city}?",
        "Can you tell me the time in {city}?",
        "What time do they have in {city}?",
        "What is the current time in {city}?",
        "I have a call with {city}. What time is it there?",
        "Is it night in {city} now?",
      ],
      heldout: [
        "Do you know what time it is in {city}?",
        "Please tell me the current time in {city}.",
        "Can you look up the time in {city}?",
      ],
    }),
    followUps: ["And in {city}?", "What about {city}?", "And {city}?"],
    result: (voice) => ({
      time: `${String(voice.integer(0, 23)).padStart(2, "0")}:${String(voice.integer(0, 59)).padStart(2, "0")}`,
    }),
    say: (given, result) => `It is ${result.time} in ${given.city}.`,
  },
  {
    names: ["set_timer", "timer", "start_timer"],
    descriptions: ["Set a timer", "Starts a timer for some minutes"],
    parameters: {
      minutes: {
        names: ["minutes", "duration", "minutes"],
        type: "integer",
        description: "Length in minutes",
      },
    },
    draw: (voice) => ({ minutes: voice.integer(1, 90) }),
    requests: phrasings({
      commands: [
        "set a timer for {minutes} minutes",
        "start a timer for {minutes} minutes",
        "start a timer of {minutes} minutes",
        "set a {minutes} minute timer",
        "wake me in {minutes} minutes",
        "remind me in {minutes} minutes",
        "run a timer for {minutes} minutes",
      ],
      sentences: [
        "Set a timer for {minutes} minutes.",
        "Timer for {minutes} minutes",
        "Start a timer of {minutes} minutes.",
        "Wake me in {minutes} minutes.",
        "Please set a {minutes} minute timer.",
        "I need a timer for {minutes} minutes.",
        "Remind me in {minutes} minutes.",
      ],
      heldout: [
        "Can you set a timer for {minutes} minutes?",
        "Start a timer for {minutes} minutes please.",
      ],
    }),
    result: () => ({ status: "ok" }),
    say: (given) => `The timer is set for ${given.minutes} minutes.`,
  },
  {
    names: ["search", "web_search", "search_web"],
    descriptions: ["Search the web", "Finds pages on the web"],
    parameters: {
      query: {
        names: ["query", "q", "query"],
        type: "string",
        description: "What to search for",
      },
    },
    draw: (voice) => ({
      query: `${voice.pick(words.ADJECTIVES)} ${voice.pick([...words.ANIMALS, ...words.THINGS, ...words.FOODS])}${voice.chance(0.4) ? ` in ${voice.pick(words.CITIES)}` : ""}`,
    }),
    requests: phrasings({
      commands: [
        "search the web for {query}",
        "search for {query}",
        "look up {query}",
        "find pages about {query}",
        "look for {query} on the web",
        "google {query}",
        "find something about {query}",
      ],
      sentences: [
        "Search the web for {query}.",
        "Search for {query}.",
        "Look up {query}.",
        "Find pages about {query}.",
        "Google {query}.",
        "Can you search for {query}?",
        "Search {query}",
      ],
      heldout: [
        "Please search the web for {query}.",
        "Can you look up {query}?",
      ],
    }),
    result: (voice) => ({ pages: voice.integer(1, 40) }),
    say: (given, result) =>
      `I found ${result.pages} pages about ${given.query}.`,
  },
  {
    names: ["send_message", "message", "send_email"],
    descriptions: ["Send a message to a person", "Sends a short message"],
    parameters: {
      to: {
        names: ["to", "recipient", "name"],
        type: "string",
        description: "Who gets it",
      },
      text: {
        names: ["text", "message", "body"],
        type: "string",
        description: "What it says",
      },
    },
    draw: (voice) => ({
      to: voice.pick(words.NAMES),
      text: voice.pick([
        "I am late",
        "I am at home",
        "happy birthday",
        "see you soon",
        "call me back",
        "thank you",
        "good night",
        "the food is ready",
        "see you on Monday",
        "I have the book",
      ]),
    }),
    requests: phrasings({
      commands: [
        "send {to} a message: {text}",
        "tell {to} this: {text}",
        "write to {to}: {text}",
        "send a message to {to} that says {text}",
        "message {to}: {text}",
        "send {to} the message {text}",
      ],
      sentences: [
        "Send {to} a message: {text}.",
        "Tell {to} this: {text}.",
        "Write to {to}: {text}.",
        "Send a message to {to} that says {text}.",
        "Message {to}: {text}.",
      ],
      heldout: ["Please send a message to {to}: {text}."],
    }),
    result: () => ({ status: "sent" }),
    say: (given) => `I sent the message to ${given.to}.`,
  },
  {
    names: ["play_music", "play_song", "music"],
    descriptions: ["Play music", "Plays music of a kind"],
    parameters: {
      genre: {
        names: ["genre", "kind", "style"],
        type: "string",
        description: "Kind of music",
      },
    },
    draw: (voice) => ({
      genre: voice.pick([
        "jazz",
        "rock",
        "pop",
        "folk",
        "classical",
        "blues",
        "country",
        "dance",
      ]),
    }),
    requests: phrasings({
      commands: [
        "play some {genre}",
        "play {genre} music",
        "put on some {genre} music",
        "play {genre}",
        "start some {genre} music",
        "let me hear some {genre}",
      ],
      sentences: [
        "Play some {genre}.",
        "Play {genre} music.",
        "I want to hear {genre}.",
        "Put on some {genre} music.",
        "Can you play {genre}?",
      ],
      heldout: ["Please play some {genre} music."],
    }),
    result: () => ({ status: "playing" }),
    say: (given) => `Now playing ${given.genre}.`,
  },
  {
    names: ["get_price", "stock_price", "price"],
    descriptions: [
      "Get the price of a product",
      "Looks up what a product costs",
    ],
    parameters: {
      product: {
        names: ["product", "item", "product"],
        type: "string",
        description: "Name of the product",
      },
    },
    draw: (voice) => ({
      product: voice.pick([...words.THINGS, ...words.FOODS]),
    }),
    requests: phrasings({
      nouns: [
        "the price of the {product}",
        "the price for the {product}",
        "the cost of the {product}",
      ],
      clauses: [
        "what the {product} costs",
        "how much the {product} is",
        "how much the {product} costs",
        "what I pay for the {product}",
      ],
      commands: [
        "check the price of the {product}",
        "look up the price of the {product}",
      ],
      sentences: [
        "What does the {product} cost?",
        "How much is the {product}?",
        "What is the price of the {product}?",
        "Tell me the price of the {product}.",
        "Price of the {product}?",
      ],
      heldout: ["How much does the {product} cost?"],
    }),
    followUps: ["And the {product}?", "What about the {product}?"],
    result: (voice) => ({ price: voice.integer(1, 200) }),
    say: (given, result) =>
      `The ${given.product} costs ${result.price} dollars.`,
  },
];
