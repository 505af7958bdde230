import {
  fill,
  typed,
  upperFirst,
  withArticles,
  type Turn,
  type Voice,
} from "./dialogue.js";
import { phrasings } from "./phrasing.js";
import * as words from "./words.js";

/** The person or animal that a story is about. */
interface Hero {
  name: string;
  kind: string;
  she: string;
  her: string;
}

/** Each step has several wordings; a story takes one of each, in order. */
type Plot = readonly (readonly string[])[];

const OPENINGS = [
  "Once upon a time there was a {mood} {kind} called {name}.",
  "There was once a {mood} {kind} named {name}.",
  "{name} was a {mood} {kind} who lived {place}.",
  "One day, a {mood} {kind} called {name} went for a walk {place}.",
  "Long ago, a {mood} {kind} named {name} lived {place}.",
];
const PLACES = [
  "near a river",
  "in a small village",
  "in a green forest",
  "on a farm",
  "by the sea",
  "in an old house",
  "on a hill",
  "at the edge of the town",
  "in a quiet valley",
  "under a big tree",
];
const MOODS = [
  "little",
  "small",
  "young",
  "brave",
  "shy",
  "kind",
  "curious",
  "cheerful",
  "quiet",
  "clever",
];
const ENDINGS = [
  "{name} smiled all the way home. The end.",
  "From that day on, they were the best of friends. The end.",
  "That night {name} slept very well. The end.",
  "And everyone was happy. The end.",
  "{name} never forgot that day. The end.",
  "They laughed and danced until the sun went down. The end.",
];

const PLOTS: readonly Plot[] = [
  [
    [
      "{She} had a {color} {thing} that {she} loved very much.",
      "{Her} favorite thing was a {color} {thing}.",
    ],
    [
      "One morning the {thing} was gone.",
      "But one day {she} could not find it.",
    ],
    [
      "{name} looked under the bed and behind the door, but it was not there.",
      "{She} looked everywhere, in the house and in the garden.",
      "{She} searched the whole day and began to cry.",
    ],
    [
      "Then {friend} came by and asked what was wrong.",
      "A friend called {friend} saw {her} and wanted to help.",
    ],
    [
      "Together they looked near the water, and there it was.",
      "They looked up, and there it was, high in a tree.",
      "Together they found it under a pile of leaves.",
    ],
    [
      '"Thank you," said {name}. "You are a true friend."',
      "{name} was so glad that {she} gave {friend} a big hug.",
    ],
  ],
  [
    [
      "{She} was afraid of the dark.",
      "Every night {she} was afraid of the dark.",
      "{She} did not like the dark at all.",
    ],
    [
      "One night the lamp went out.",
      "One evening {she} had to walk home alone.",
    ],
    [
      "{name} heard a small voice. It was {friend}, who was lost and afraid too.",
      "In the dark {she} met {friend}, who was crying.",
    ],
    [
      '"Take my hand," said {name}. "We will go together."',
      '"Do not be afraid," said {name}. "I am here."',
    ],
    [
      "They looked up and saw a thousand stars.",
      "The moon came out and made the path bright.",
    ],
    [
      "{name} learned that the dark is not so bad with a friend.",
      "After that night {name} was not afraid any more.",
    ],
  ],
  [
    [
      "{She} wanted to grow the biggest {plant} of all.",
      "In spring {she} planted a {plant} in the garden.",
    ],
    [
      "Every day {she} gave it water and waited.",
      "{She} gave it water every morning.",
    ],
    [
      "At first nothing came up, and {friend} laughed.",
      "For a long time nothing happened.",
    ],
    ["But {name} did not give up.", "{name} waited, and waited some more."],
    [
      "Then one warm day the {plant} was as big as a house.",
      "In summer the {plant} was so big that three friends had to carry it.",
    ],
    [
      "{name} shared it with the whole village.",
      "{She} made a big soup and asked everyone to come.",
    ],
  ],
  [
    [
      "It was a cold winter, and there was little to eat.",
      "One cold day {she} had only one piece of {food} left.",
    ],
    [
      "On the road {she} met {friend}, who was very hungry.",
      "Then {friend} knocked at the door, hungry and cold.",
    ],
    [
      "{name} thought for a while and gave away half of the {food}.",
      '"Here," said {name}, "half of my {food} is for you."',
    ],
    [
      "They ate together and told each other stories.",
      "They sat by the fire and ate together.",
    ],
    [
      "In spring {friend} came back with a big basket of {food}.",
      "The next day {friend} brought a whole basket of {food}.",
    ],
    [
      "{name} saw that good things come back to those who share.",
      "So {name} learned that sharing makes two friends happy.",
    ],
  ],
  [
    [
      "{She} dreamed of flying like a bird.",
      "More than anything, {she} wanted to see the sea.",
    ],
    [
      "One day {she} built a small boat of wood.",
      "So one morning {she} packed some {food} and set out.",
    ],
    [
      "The way was long, and the rain was cold.",
      "A strong wind blew, and the waves were high.",
    ],
    [
      "{friend} saw that {name} was tired and showed {her} a dry place to rest.",
      "On the way {she} met {friend}, and they went on together.",
    ],
    [
      "At last they came to the top of a hill and saw the blue water below.",
      "In the morning the sun came out, and the sea was as smooth as glass.",
    ],
    [
      '"It is more beautiful than in my dream," said {name}.',
      "{name} stood still for a long time and looked.",
    ],
  ],
  [
    [
      "{name} and {friend} wanted to know who was the fastest.",
      'One day {friend} said: "I am faster than you."',
    ],
    [
      "They ran from the old bridge to the mill.",
      "So they made a race around the lake.",
    ],
    [
      "{friend} was far ahead and laughed.",
      "At first {friend} was much faster.",
    ],
    [
      "But then {friend} fell into a hole and could not get out.",
      "Then {friend} stopped to sleep under a tree, and the water of the lake began to rise.",
    ],
    [
      "{name} could have won, but {she} stopped to help.",
      "{name} forgot about the race and pulled {friend} out.",
    ],
    [
      '"You have won," said {friend}, "because you are kind."',
      "They crossed the line together, hand in hand.",
    ],
  ],
  [
    [
      "One morning {she} found a little {baby} by the road.",
      "On the way to school {she} saw a small {baby} in the rain.",
    ],
    ["It was wet and very tired.", "It was all alone and shook with cold."],
    [
      "{name} took it home and gave it warm {food}.",
      "{She} put it into a warm blanket and gave it some {food}.",
    ],
    [
      "Day by day the {baby} became stronger.",
      "Soon the {baby} could run and play again.",
    ],
    [
      "One day {friend} came and said that the {baby} was lost.",
      "Then {friend} came to the door, looking for a lost {baby}.",
    ],
    [
      "The {baby} went home, but it came to see {name} every week.",
      '"You may visit it every day," said {friend}, and {name} was glad.',
    ],
  ],
  [
    [
      "{name} had a secret: {she} could sing more beautifully than anyone.",
      "{She} liked to sing, but only when nobody was there.",
    ],
    [
      "But {she} was too shy to sing for others.",
      "{She} was afraid that the others would laugh.",
    ],
    [
      "One day there was a big party in the village, and the music was broken.",
      "At the summer party the drummer was ill, and there was no music.",
    ],
    [
      '"Please sing for us," said {friend}.',
      '{friend} looked at {name} and said: "You can do it."',
    ],
    [
      "{name} closed {her} eyes and began to sing, very softly.",
      "{name} took a deep breath and sang.",
    ],
    [
      "Everyone was quiet, and then they all clapped.",
      "Even the birds stopped to listen.",
    ],
  ],
];

const REQUESTS = phrasings({
  nouns: [
    "a story",
    "a short story",
    "a little story",
    "a nice story",
    "a bedtime story",
  ],
  commands: [
    "tell me a story",
    "tell a story",
    "write a story",
    "make up a story",
    "tell me a short story",
    "write a short story",
    "read me a story",
  ],
  sentences: [
    "Tell me a story.",
    "Tell me a short story.",
    "Can you tell me a story?",
    "Please tell me a story.",
    "I want to hear a story.",
    "Write a story.",
    "Write a short story.",
    "A story please!",
    "Once upon a time",
    "Story time!",
    "Do you know a story?",
    "Tell me a bedtime story.",
    "Tell a story",
    "Write me a little story.",
    "Make up a story.",
    "I would like a story.",
    "Tell me another story.",
  ],
  heldout: [
    "Could you tell me a short story?",
    "Please write a little story.",
    "I would love to hear a story.",
    "Read me a story.",
  ],
});
const REQUESTS_ABOUT = phrasings({
  nouns: [
    "a story about a {kind}",
    "a short story about a {kind}",
    "a story about a {kind} called {name}",
    "the story of a {kind}",
    "a little story about {name} the {kind}",
  ],
  commands: [
    "tell me a story about a {kind}",
    "write a story about a {kind}",
    "make up a story about a {kind} called {name}",
    "tell a short story about a {kind}",
    "write a little story about a {kind} named {name}",
  ],
  sentences: [
    "Tell me a story about a {kind}.",
    "Write a story about a {kind}.",
    "Can you tell me a story about a {kind}?",
    "I want a story about a {kind}.",
    "Write a short story about a {kind}.",
    "Tell me a short story about a {kind}.",
    "A story about a {kind} please.",
    "Make up a story about a {kind}.",
    "Do you know a story about a {kind}?",
    "Tell me a story about a {kind} called {name}.",
    "Write a story about {name} the {kind}.",
    "Story about a {kind} named {name}",
  ],
  heldout: [
    "Please tell me a little story about a {kind}.",
    "I would like to hear a story about a {kind}.",
    "Could you write a story about a {kind} called {name}?",
  ],
});

function hero(voice: Voice): Hero {
  const kind = voice.chance(0.35)
    ? voice.pick(["girl", "boy"])
    : voice.pick(words.ANIMALS);
  const female = kind === "girl" || (kind !== "boy" && voice.chance(0.5));
  return {
    name: voice.pick(words.NAMES),
    kind,
    she: female ? "she" : "he",
    her: female ? "her" : "his",
  };
}

export function storyText(voice: Voice, about: Hero = hero(voice)): string {
  const values = {
    ...about,
    She: upperFirst(about.she),
    Her: upperFirst(about.her),
    friend: voice.pick(words.NAMES.filter((name) => name !== about.name)),
    mood: voice.pick(MOODS),
    place: voice.pick(PLACES),
    color: voice.pick(words.COLORS),
    thing: voice.pick(words.THINGS),
    plant: voice.pick(words.VEGETABLES),
    food: voice.pick(
      words.FOODS.filter((food) => !["eggs", "tea", "coffee"].includes(food)),
    ),
    baby: voice.pick(["kitten", "puppy", "bird", "duck", "lamb", "hedgehog"]),
  };
  const steps = voice.pick(PLOTS).map((wordings) => voice.pick(wordings));
  const told = [voice.pick(OPENINGS), ...steps, voice.pick(ENDINGS)].join(" ");
  // "her" stands for the object and the possessive alike; for a boy the object is "him".
  const text =
    about.she === "he"
      ? told.replace(/(saw|showed|with) \{her\}/g, "$1 him")
      : told;
  return withArticles(fill(text, values));
}

export function story(voice: Voice): Turn {
  const about = hero(voice);
  const request = voice.chance(0.35)
    ? voice.phrase(REQUESTS)
    : fill(voice.phrase(REQUESTS_ABOUT), { ...about });
  return [
    { role: "user", content: typed(voice, withArticles(request)) },
    { role: "assistant", content: storyText(voice, about) },
  ];
}
