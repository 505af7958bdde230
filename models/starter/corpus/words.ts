/** The nouns and names that the corpus is made of. */
const split = (text: string): string[] => text.trim().split(/\s+/);

export const NAMES = split(`
  Anna Ben Clara David Emma Felix Grace Henry Iris Jack Kate Leo Mia Noah Olivia Paul Quinn Rosa Sam Tina Uma Victor
  Wendy Xavier Yara Zoe Adam Bella Carl Diana Eric Fiona George Hanna Ivan Julia Kevin Laura Max Nora Oscar Petra
  Robert Sara Tom Ursula Vera Will Alice Bruno Carla Dan Elena Frank Gina Hugo Ines Jonas Karin Lucas Maria Nina Otto
  Paula Ralf Simon Tara Viola Walter Amir Aisha Chen Divya Emeka Fatima Goran Hiro Ingrid Jorge Kenji Leila Mateo
  Nadia Omar Priya Ravi Sofia Tariq Yuki Zara Lily Tim Ella Finn Ruby Theo Ada Alan`);

export const CITIES = split(`
  Paris London Berlin Madrid Rome Vienna Lisbon Dublin Oslo Stockholm Helsinki Warsaw Prague Budapest Athens Cairo
  Tokyo Beijing Seoul Delhi Mumbai Bangkok Hanoi Jakarta Sydney Melbourne Toronto Boston Chicago Denver Seattle Dallas
  Lima Bogota Santiago Nairobi Lagos Tunis Istanbul Moscow Kyiv Zurich Geneva Milan Naples Venice Munich Hamburg Lyon
  Porto Seville Bergen Krakow Bern Osaka Kyoto Manila Singapore Dubai Doha Havana Quito`);

export const ANIMALS = split(`
  fox rabbit bear cat dog mouse bird frog duck horse owl hedgehog squirrel turtle lamb goat kitten puppy bee deer wolf
  lion elephant monkey penguin`);

export const FRUITS = split(
  "apple pear plum cherry banana orange lemon grape peach mango melon kiwi",
);
export const COLORS = split(
  "red blue green yellow white black brown pink purple orange gray",
);
export const THINGS = split(`
  book lamp chair table pen cup hat ball box key clock bag shirt coat shoe bike phone pencil plate spoon fork bottle
  mirror pillow blanket towel candle basket jacket scarf kite drum`);
export const FOODS = split(
  "bread cheese soup rice pizza salad pasta cake honey milk butter eggs tea coffee",
);
export const DAYS = split(
  "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
);
export const MONTHS = split(
  "January February March April May June July August September October November December",
);
export const EVENTS = split(
  "meeting party concert lunch dinner workshop lecture wedding picnic game class interview review",
);
export const VERBS = split(
  "sees likes finds wants takes brings paints holds opens sells buys makes",
);
export const ADJECTIVES = split(
  "small big old new happy sad quick slow warm cold bright quiet soft round long kind",
);
export const JOBS = split(
  "teacher doctor baker nurse farmer pilot painter driver cook writer engineer singer",
);
export const VEHICLES = split("car bus train boat plane truck tram ship");
export const VEGETABLES = split(
  "carrot onion potato tomato bean pea cabbage pepper",
);

export const ALL_WORDS = [
  ...ANIMALS,
  ...FRUITS,
  ...COLORS,
  ...THINGS,
  ...FOODS,
  ...ADJECTIVES,
  ...JOBS,
  ...VEHICLES,
  ...VEGETABLES,
];
