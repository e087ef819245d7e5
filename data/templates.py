"""Build caption-like English sentences from templates, as source text for calibration.

Each family of templates lists every sentence it can form, as a product of small slots that
agree with one another (number, possessive, and sense). :func:`sentences` shuffles the families
with a seeded generator and draws from them in turn, so the same arguments always give the same
list. No sentence here is scored against anything; the module only supplies text to translate.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import product
from typing import NamedTuple


class Subject(NamedTuple):
    """A noun phrase in lower case, with what the rest of its sentence must agree with."""

    text: str
    plural: bool
    possessive: str


def _one(text: str, possessive: str) -> Subject:
    return Subject(text, False, possessive)


def _many(text: str) -> Subject:
    return Subject(text, True, "their")


def _be(subject: Subject) -> str:
    return "are" if subject.plural else "is"


def _pick(subject: Subject, forms: tuple[str, str]) -> str:
    """The singular or the plural one of two forms, to agree with the subject."""
    return forms[1] if subject.plural else forms[0]


def _sentence(*parts: str) -> str:
    """Join the parts that are not empty, with a capital in front and a full stop behind."""
    text = " ".join(part for part in parts if part)
    return text[0].upper() + text[1:] + "."


ADULTS = (
    _one("a young woman", "her"),
    _one("an old man", "his"),
    _one("a tall woman", "her"),
    _one("a bald man", "his"),
    _one("a woman with curly hair", "her"),
    _one("a man with a gray beard", "his"),
    _many("two young men"),
    _many("three women"),
    _many("several students"),
    _many("a man and a woman"),
    _one("a teenage girl", "her"),
    _one("a thin boy", "his"),
    _one("a woman with long black hair", "her"),
    _one("a man with tattoos", "his"),
    _many("two elderly ladies"),
    _many("four friends"),
)

CHILDREN = (
    _one("a little girl", "her"),
    _one("a small boy", "his"),
    _one("a girl with braids", "her"),
    _one("a boy with red hair", "his"),
    _many("two sisters"),
    _many("three little boys"),
    _many("two toddlers"),
    _many("a brother and a sister"),
    _one("a blond child", "her"),
    _one("a barefoot boy", "his"),
    _many("twin girls"),
    _many("four kids"),
)


def _street() -> list[str]:
    looks = (
        ("in a red jacket", "in red jackets"),
        ("with a gray backpack", "with gray backpacks"),
        ("wearing sunglasses", "wearing sunglasses"),
        ("in a striped shirt", "in striped shirts"),
        ("in a dark suit", "in dark suits"),
        ("wearing blue jeans", "wearing blue jeans"),
        ("with a camera", "with cameras"),
        ("carrying a plastic bag", "carrying plastic bags"),
        ("", ""),
    )
    actions = (
        "waiting for a taxi",
        "reading a map",
        "eating ice cream",
        "laughing at a poster",
        "watching the traffic",
        "drinking coffee from paper cups",
        "looking up at a balcony",
        "buying lemonade",
        "petting a cat",
        "asking a policeman for directions",
        "talking to a neighbor",
        "admiring a motorcycle",
        "taking a picture of a mural",
        "listening to a street preacher",
    )
    places = (
        "in front of a bank",
        "outside a small bookstore",
        "next to a newspaper stand",
        "near the old post office",
        "on the corner of a quiet street",
        "across from a movie theater",
        "under a traffic light",
        "by the entrance of a supermarket",
        "in an alley full of graffiti",
        "beside a parking meter",
        "at the top of a steep street",
    )
    out = []
    for subject, look, action, place in product(ADULTS, looks, actions, places):
        if not subject.plural:
            action = action.replace("paper cups", "a paper cup")
        if " with " in subject.text and "with" in look[0]:
            continue
        out.append(_sentence(subject.text, _pick(subject, look), _be(subject), action, place))
    return out


def _dogs() -> list[str]:
    dogs = (
        _one("a small brown dog", "its"),
        _one("a spotted dog", "its"),
        _one("a large white dog with a blue collar", "its"),
        _one("a skinny gray dog", "its"),
        _many("two black dogs"),
        _many("three puppies"),
    )
    actions = (
        ("chases a tennis ball", "chase a tennis ball"),
        ("barks at a bicycle", "bark at a bicycle"),
        ("digs in the ground", "dig in the ground"),
        ("runs in circles", "run in circles"),
        ("plays with an old rope", "play with an old rope"),
        ("jumps over a log", "jump over a log"),
        ("fetches a stick", "fetch a stick"),
        ("sniffs an old shoe", "sniff an old shoe"),
        ("looks for a bone", "look for a bone"),
        ("catches a blue frisbee", "catch a blue frisbee"),
        ("rolls over", "roll over"),
        ("growls at another dog", "growl at another dog"),
    )
    places = (
        "on the beach",
        "behind a red barn",
        "at the edge of the forest",
        "near a wooden fence",
        "in the tall grass",
        "beside a shallow creek",
        "on a dirt path",
        "in a backyard",
        "among fallen leaves",
    )
    tails = (
        "",
        "on a summer morning",
        "while two boys laugh",
        "in the evening light",
        "early in the morning",
        "under a cloudy sky",
        "while {} owner watches",
        "while {} owner talks to a neighbor",
    )
    return [
        _sentence(dog.text, _pick(dog, action), place, tail.format(dog.possessive))
        for dog, action, place, tail in product(dogs, actions, places, tails)
    ]


def _farm_animals() -> list[str]:
    animals = (
        _one("a brown horse", "its"),
        _one("a young goat", "its"),
        _one("a large bull", "its"),
        _one("an old donkey", "its"),
        _many("two black cows"),
        _many("several sheep"),
        _many("a goat and two sheep"),
        _many("some pigs"),
        _many("five white geese"),
        _one("a spotted calf", "its"),
        _one("a small pony", "its"),
    )
    actions = (
        ("stands", "stand"),
        ("eats fresh grass", "eat fresh grass"),
        ("walks slowly", "walk slowly"),
        ("rests in the shade", "rest in the shade"),
        ("drinks from a bucket", "drink from a bucket"),
        ("looks toward the camera", "look toward the camera"),
        ("wanders around", "wander around"),
    )
    places = (
        "beside a muddy road",
        "near a stone wall",
        "in a green valley",
        "under a big tree",
        "behind a wire fence",
        "next to a broken cart",
        "in front of a barn",
        "on a rocky hillside",
        "by a small pond",
    )
    tails = (
        "",
        "while rain falls",
        "while a farmer loads hay onto a wagon",
        "with mountains in the background",
        "as a train passes",
        "while two children look on",
    )
    return [
        _sentence(animal.text, _pick(animal, action), place, tail)
        for animal, action, place, tail in product(animals, actions, places, tails)
    ]


def _trades() -> list[str]:
    trades: tuple[tuple[tuple[Subject, Subject], tuple[str, ...], tuple[str, ...]], ...] = (
        (
            (_one("a baker", "his"), _many("two bakers")),
            ("taking fresh bread out of the oven", "decorating a cake", "mixing dough in a bowl"),
            ("in a warm kitchen", "early in the morning"),
        ),
        (
            (_one("a mechanic", "his"), _many("two mechanics")),
            ("changing a tire", "checking the engine of a truck", "looking for the right tool"),
            ("in a dark garage", "beside a silver car"),
        ),
        (
            (_one("a nurse", "her"), _many("three nurses")),
            ("talking to a patient", "pushing an empty bed", "reading a chart"),
            ("in the hallway of a hospital", "in a bright hospital room"),
        ),
        (
            (_one("a gardener", "her"), _many("two gardeners")),
            ("planting flowers", "cutting the bushes", "raking leaves into a pile"),
            ("behind a large house", "along a gravel path"),
        ),
        (
            (_one("a firefighter", "his"), _many("several firefighters")),
            ("cleaning a long hose", "climbing a ladder", "putting on heavy gloves"),
            ("in front of a brick building", "next to a fire truck"),
        ),
        (
            (_one("a waitress", "her"), _many("two waitresses")),
            ("setting the tables", "carrying plates of pasta", "cleaning up broken glass"),
            ("in an empty restaurant", "on the terrace of a hotel"),
        ),
        (
            (_one("a construction worker", "his"), _many("four construction workers")),
            ("mixing cement", "carrying metal pipes", "breaking up the pavement"),
            ("on a busy road", "behind an orange fence", "at the bottom of a deep hole"),
        ),
        (
            (_one("a fisherman", "his"), _many("two fishermen")),
            ("pulling in a net", "sorting the fish", "untying a rope"),
            ("on a small boat", "on the deck of a blue ship"),
        ),
        (
            (_one("a hairdresser", "her"), _many("two hairdressers")),
            ("cutting the hair of a customer", "sweeping the floor", "drying wet hair"),
            ("in a small salon", "in a shop with large mirrors"),
        ),
        (
            (_one("a photographer", "his"), _many("two photographers")),
            ("taking pictures of a model", "setting up a camera", "testing the lights"),
            ("in a white studio", "in an old factory"),
        ),
        (
            (_one("a carpenter", "his"), _many("two carpenters")),
            ("sanding a chair", "hammering nails into a board", "measuring a door"),
            ("in a dusty workshop", "behind an unfinished house"),
        ),
        (
            (_one("a dentist", "her"), _many("two dentists")),
            ("examining the teeth of a child", "looking at an x-ray"),
            ("under a bright lamp", "in a clean office"),
        ),
        (
            (_one("a tailor", "his"), _many("three tailors")),
            ("sewing a wedding dress", "ironing a pair of pants", "cutting purple fabric"),
            ("at a wide table", "in a room full of clothes"),
        ),
        (
            (_one("a farmer", "his"), _many("two farmers")),
            ("harvesting cabbage", "driving an old tractor", "repairing a gate"),
            ("under the hot sun", "at the edge of a wheat field"),
        ),
        (
            (_one("a scientist", "her"), _many("several scientists")),
            ("looking into a microscope", "filling glass tubes", "writing down numbers"),
            ("in a modern laboratory", "next to a computer"),
        ),
        (
            (_one("a welder", "his"), _many("two welders")),
            ("joining two steel beams", "putting on a mask", "working on a railing"),
            ("high above the city", "inside an unfinished building"),
        ),
    )
    tails = ("", "while a colleague watches", "at the end of a long day", "after a short break")
    out = []
    for subjects, actions, places in trades:
        for subject, action, place, tail in product(subjects, actions, places, tails):
            if "early" in place and ("after" in tail or "end" in tail):
                continue
            if subject.plural:
                action = action.replace("putting on a mask", "putting on their masks")
            out.append(_sentence(subject.text, _be(subject), action, place, tail))
    return out


def _sports() -> list[str]:
    sports: tuple[tuple[tuple[str, str], tuple[tuple[str, str], ...], tuple[str, ...]], ...] = (
        (
            ("a soccer player", "two soccer players"),
            (("runs after the ball", "run after the ball"), ("falls down", "fall down")),
            ("on a wet field", "near the goal"),
        ),
        (
            ("a basketball player", "three basketball players"),
            (("practices free throws", "practice free throws"), ("takes a break", "take a break")),
            ("in an old gym", "on an outdoor court"),
        ),
        (
            ("a volleyball player", "two volleyball players"),
            (("jumps at the net", "jump at the net"), ("misses the ball", "miss the ball")),
            ("during a match on the beach", "while the crowd cheers"),
        ),
        (
            ("a skateboarder", "two skateboarders"),
            (("slides down a handrail", "slide down a handrail"), ("does a trick", "do tricks")),
            ("near a concrete bench", "in an empty parking lot"),
        ),
        (
            ("a runner", "four runners"),
            (("crosses a stone bridge", "cross a stone bridge"), ("climbs a hill", "climb a hill")),
            ("during a marathon", "in the pouring rain"),
        ),
        (
            ("a skier", "two skiers"),
            (("speeds down the slope", "speed down the slope"), ("stops to rest", "stop to rest")),
            ("between tall pine trees", "on a sunny winter day"),
        ),
        (
            ("a boxer", "two boxers"),
            (("trains hard", "train hard"), ("drinks some water", "drink some water")),
            ("before an important fight", "in the corner of the ring"),
        ),
        (
            ("a gymnast", "three gymnasts"),
            (("swings from a bar", "swing from a bar"), ("does a handstand", "do handstands")),
            ("in front of the judges", "at the end of a show"),
        ),
        (
            ("a hockey player", "two hockey players"),
            (("fights for the puck", "fight for the puck"), ("skates away", "skate away")),
            ("behind the net", "during a rough game"),
        ),
        (
            ("a golfer", "three golfers"),
            (("walks to the next hole", "walk to the next hole"), ("rests", "rest")),
            ("under a row of palm trees", "beside a sand trap"),
        ),
        (
            ("a rugby player", "two rugby players"),
            (("tackles an opponent", "tackle an opponent"), ("gets up", "get up")),
            ("in deep mud", "in front of a packed stadium"),
        ),
        (
            ("a wrestler", "two wrestlers"),
            (("stretches", "stretch"), ("listens to the referee", "listen to the referee")),
            ("on a yellow mat", "before the final round"),
        ),
        (
            ("a rower", "four rowers"),
            (("pulls hard", "pull hard"), ("waits for the signal", "wait for the signal")),
            ("on a misty river", "in a narrow boat"),
        ),
        (
            ("a karate student", "two karate students"),
            (("breaks a board", "break boards"), ("kicks high", "kick high")),
            ("in a crowded hall", "while the instructor counts aloud"),
        ),
    )
    looks = (
        ("in green", "in green"),
        ("with short blond hair", "with short blond hair"),
        ("in black shorts", "in black shorts"),
        ("with a bandage on one knee", "with bandages on their knees"),
        ("with a shaved head", "with shaved heads"),
        ("wearing number seven", "in numbered jerseys"),
    )
    covered = ("skier", "hockey", "karate")  # dressed from head to foot
    numbered = ("soccer", "basketball", "volleyball", "hockey", "rugby", "runner")
    out = []
    for athletes, actions, places in sports:
        for number, look, action, place in product((0, 1), looks, actions, places):
            if any(sport in athletes[0] for sport in covered) and ("shorts" in look[0] or "knee" in look[0]):
                continue
            if "seven" in look[0] and not any(sport in athletes[0] for sport in numbered):
                continue
            out.append(_sentence(athletes[number], look[number], action[number], place))
    return out


def _music() -> list[str]:
    players = (
        _one("a young man", "his"),
        _one("a street musician", "his"),
        _one("a woman in a black dress", "her"),
        _one("a man in a leather vest", "his"),
        _one("a blind old man", "his"),
        _many("two brothers"),
        _many("three women in long skirts"),
        _many("two teenagers"),
        _one("a girl in a school uniform", "her"),
        _one("a man with dreadlocks", "his"),
        _one("a woman in a wide hat", "her"),
        _many("four men in tuxedos"),
        _many("a father and his daughter"),
    )
    instruments = (
        "guitar",
        "violin",
        "trumpet",
        "flute",
        "drums",
        "saxophone",
        "cello",
        "harmonica",
        "accordion",
        "keyboard",
        "banjo",
        "clarinet",
        "bagpipes",
        "tambourine",
    )
    places = (
        "on a small stage",
        "in front of a cafe",
        "under a stone bridge",
        "in a city park",
        "at the foot of some stairs",
        "inside a church",
        "at a wedding",
        "in the hall of a subway station",
        "on the porch of a wooden house",
        "beside a campfire",
    )
    tails = (
        "while a few people listen",
        "while a child dances",
        "as the sun goes down",
        "to earn some money",
        "with {} eyes closed",
        "and smiles",
        "for a small audience",
        "while someone sings",
        "on a warm evening",
    )
    out = []
    for player, instrument, place, tail in product(players, instruments, places, tails):
        if "blind" in player.text and "eyes" in tail:
            continue
        if "earn" in tail and any(word in place for word in ("church", "campfire", "porch")):
            continue
        if "sun" in tail and ("church" in place or "subway" in place):
            continue
        verb = _pick(player, ("plays", "play"))
        if player.plural:
            tail = tail.replace("smiles", "smile")
        tail = tail.format(player.possessive)
        out.append(_sentence(player.text, verb, "the", instrument, place, tail))
    return out


def _cooking() -> list[str]:
    cooks = (
        _one("a grandmother", "her"),
        _one("a chef in a white hat", "his"),
        _one("a man in a blue apron", "his"),
        _one("a pregnant woman", "her"),
        _many("a father and his son"),
        _many("two friends"),
        _one("a young couple", "their"),
        _one("a teenager in an oversized sweater", "his"),
        _one("a woman in a pink bathrobe", "her"),
        _many("three cooks"),
        _many("a mother and her children"),
    )
    actions = (
        "peeling potatoes",
        "cutting onions into thin slices",
        "frying fish",
        "washing lettuce",
        "baking cookies",
        "stirring a pot of soup",
        "making a pizza with mushrooms",
        "putting cheese on a plate",
        "grilling corn",
        "rolling sushi",
        "squeezing lemons",
        "pouring milk into a bowl of flour",
        "beating eggs",
        "tasting spaghetti sauce",
        "chopping carrots and peppers",
        "arranging strawberries on a pie",
        "grating chocolate",
        "filling jars with honey",
    )
    places = (
        "in a small kitchen",
        "in an outdoor kitchen",
        "next to an open window",
        "in the kitchen of a boat",
        "under a hanging lamp",
    )
    tails = (
        "",
        "before the guests arrive",
        "for a big party",
        "for the whole family",
        "while a cat begs for food",
        "and singing an old song",
        "during a cooking class",
        "for a sick neighbor",
        "on a lazy Sunday morning",
    )
    out = []
    for cook, action, place, tail in product(cooks, actions, places, tails):
        if ("grilling" in action or "frying" in action) and "lamp" in place:
            continue
        out.append(_sentence(cook.text, _be(cook), action, place, tail))
    return out


def _children() -> list[str]:
    actions = (
        ("builds a tower out of wooden blocks", "build a tower out of wooden blocks"),
        ("draws flowers with chalk", "draw flowers with chalk"),
        ("plays with a toy train", "play with a toy train"),
        ("blows soap bubbles", "blow soap bubbles"),
        ("splashes in a plastic pool", "splash in a plastic pool"),
        ("hides under a table", "hide under a table"),
        ("throws leaves into the air", "throw leaves into the air"),
        ("eats chocolate pudding", "eat chocolate pudding"),
        ("climbs an apple tree", "climb an apple tree"),
        ("feeds a stuffed bear", "feed a stuffed bear"),
        ("paints a cardboard box", "paint a cardboard box"),
        ("rides a wooden horse", "ride wooden horses"),
        ("jumps on the bed", "jump on the bed"),
        ("chases a butterfly", "chase a butterfly"),
        ("fills a bucket with mud", "fill a bucket with mud"),
        ("puts on a superhero costume", "put on superhero costumes"),
        ("listens to a fairy tale", "listen to a fairy tale"),
    )
    relatives = ("mother", "father", "grandfather", "grandmother", "babysitter", "uncle")
    verbs = (
        "drinks tea",
        "reads a magazine",
        "talks on the phone",
        "hangs up the laundry",
        "sleeps in a chair",
        "laughs",
        "looks away for a moment",
        "folds the shirts",
        "films everything",
        "works on a laptop",
        "carries a crying baby around",
        "waters the lawn",
    )
    out = []
    for child, action, relative, verb in product(CHILDREN, actions, relatives, verbs):
        if "toddlers" in child.text and "climbs" in action[0]:
            continue
        if "fairy tale" in action[0] and "phone" in verb:
            continue
        out.append(_sentence(child.text, _pick(child, action), "while", child.possessive, relative, verb))
    return out


def _vehicles() -> list[str]:
    vehicles = (
        _one("a yellow taxi", "its"),
        _one("a green truck", "its"),
        _one("an old bus", "its"),
        _one("a police car", "its"),
        _one("a rusty tractor", "its"),
        _many("two white vans"),
        _many("several sports cars"),
        _one("a black limousine", "its"),
        _one("an ambulance", "its"),
        _one("a garbage truck", "its"),
        _one("a small delivery van", "its"),
        _many("three motorcycles"),
    )
    states = (
        ("is parked", "are parked"),
        ("is stuck in the mud", "are stuck in the mud"),
        ("stops", "stop"),
        ("turns around", "turn around"),
        ("passes a cyclist", "pass a cyclist"),
        ("waits for a herd of goats", "wait for a herd of goats"),
        ("goes past a billboard", "go past a billboard"),
    )
    places = (
        "in front of a hotel",
        "near a closed gas station",
        "beside a corn field",
        "outside a soccer stadium",
        "in the middle of the road",
        "at the end of a long bridge",
        "next to a railroad crossing",
        "on a winding mountain road",
        "by the entrance to a tunnel",
        "in a poor neighborhood",
    )
    tails = (
        "",
        "with {} lights on",
        "in the thick fog",
        "late at night",
        "after heavy rain",
        "during a parade",
        "on a dusty afternoon",
        "as two pedestrians watch",
    )
    return [
        _sentence(vehicle.text, _pick(vehicle, state), place, tail.format(vehicle.possessive))
        for vehicle, state, place, tail in product(vehicles, states, places, tails)
        if ("mud" not in state[0] or "field" in place or "stadium" in place)
        and ("goats" not in state[0] or "mountain" in place or "field" in place)
    ]


def _waiting() -> list[str]:
    places = (
        "on a crowded train",
        "at a small airport",
        "in a waiting room",
        "on a long bench at the station",
        "in the back of a bus",
        "on the upper deck of a ferry",
        "in the lobby of a hotel",
        "in a noisy cafeteria",
        "in a train compartment",
    )
    looks = (
        ("in a brown coat", "in brown coats"),
        ("with a large suitcase", "with large suitcases"),
        ("in a knit hat", "in knit hats"),
        ("with a heavy bag", "with heavy bags"),
        ("wearing headphones", "wearing headphones"),
        ("with a folded umbrella", "with folded umbrellas"),
        ("in a silk scarf", "in silk scarves"),
    )
    actions = (
        "reading a thick book",
        "eating a cheese sandwich",
        "writing postcards",
        "sleeping",
        "arguing with an employee",
        "sharing a bag of nuts with a friend",
        "playing cards with a child",
        "knitting",
        "drinking hot tea",
        "talking about politics",
        "looking for a lost glove",
        "waving goodbye to someone",
        "doing a crossword puzzle",
        "comforting a crying baby",
    )
    out = []
    for place, subject, look, action in product(places, ADULTS, looks, actions):
        if " with " in subject.text and "with" in look[0]:
            continue
        if subject.plural and ("sandwich" in action or "book" in action or "glove" in action):
            continue
        if not subject.plural and "politics" in action:
            continue
        parts = (place + ",", subject.text, _pick(subject, look), _be(subject), action)
        out.append(_sentence(*parts))
    return out


def _water() -> list[str]:
    actions = (
        "walking barefoot along the shore",
        "swimming far from the shore",
        "looking for crabs between the rocks",
        "drying off with {} towels",
        "floating on an air mattress",
        "pulling a kayak out of the water",
        "flying a colorful kite",
        "eating watermelon under a beach umbrella",
        "feeding the seagulls",
        "digging a canal in the sand",
        "putting on sunscreen",
        "watching the sailboats",
        "throwing flat stones into the water",
        "playing volleyball with a pink ball",
        "collecting driftwood",
    )
    times = (
        "at sunset",
        "on a windy afternoon",
        "on a hot summer day",
        "after a long swim",
        "while gray clouds gather over the sea",
        "while a dog barks at the waves",
        "near an old lighthouse",
        "before the tide comes in",
        "next to a row of canoes",
        "as a cruise ship sails by",
    )
    out = []
    for subject, action, time in product(ADULTS + CHILDREN, actions, times):
        if "after" in time and "swimming" in action:
            continue
        if "toddlers" in subject.text and ("swim" in action + time or "kayak" in action):
            continue
        if "far" in action and "row" in time:
            continue
        action = action.format(subject.possessive)
        if not subject.plural:
            action = action.replace("towels", "towel")
        out.append(_sentence(subject.text, _be(subject), action, time))
    return out


def _winter() -> list[str]:
    subjects = (
        _one("a boy in a thick scarf", "his"),
        _one("a woman in snow boots", "her"),
        _one("an elderly man in a fur hat", "his"),
        _one("a girl with red mittens", "her"),
        _many("two neighbors"),
        _many("four children in snowsuits"),
        _many("a mother and her daughter"),
        _one("a child with rosy cheeks", "her"),
        _one("a man in a ski mask", "his"),
        _many("three monks in orange robes"),
    )
    actions = (
        ("shovels snow", "shovel snow"),
        ("builds a snowman", "build a snowman"),
        ("slides on the ice", "slide on the ice"),
        ("throws snowballs at a tree", "throw snowballs at a tree"),
        ("carries firewood", "carry firewood"),
        ("feeds hungry birds", "feed hungry birds"),
        ("pulls a sled", "pull a sled"),
        ("warms up by a fire", "warm up by a fire"),
        ("drinks hot chocolate", "drink hot chocolate"),
        ("cleans icy steps", "clean icy steps"),
        ("walks a husky", "walk two huskies"),
    )
    places = (
        "in front of a wooden cabin",
        "beside a frozen river",
        "in a quiet village",
        "on an empty playground",
        "behind a church",
        "near a ski lift",
        "in a forest of pine trees",
        "outside a grocery store",
    )
    tails = (
        "",
        "on a cold morning",
        "as more snow falls",
        "before it gets dark",
        "in a strong wind",
        "shortly after a storm",
    )
    needs = {
        "steps": ("cabin", "church", "store"),
        "shovels": ("cabin", "church", "store", "village", "playground"),
        "fire": ("cabin", "river", "village", "forest"),
    }

    def fits(action: str, place: str) -> bool:
        return all(any(word in place for word in words) for key, words in needs.items() if key in action.split())

    return [
        _sentence(subject.text, _pick(subject, action), place, tail)
        for subject, action, place, tail in product(subjects, actions, places, tails)
        if fits(action[0], place)
    ]


def _shows() -> list[str]:
    crowds = (
        ("a large crowd watches", "as"),
        ("several tourists take pictures", "while"),
        ("a group of children laughs", "as"),
        ("many people clap", "while"),
        ("two police officers smile", "as"),
        ("a little girl on her father's shoulders stares", "as"),
        ("the audience holds its breath", "while"),
        ("an old lady shakes her head", "as"),
        ("reporters stand nearby", "while"),
    )
    performers = (
        _one("a man on stilts", "his"),
        _one("a clown in huge shoes", "his"),
        _one("a street artist", "her"),
        _one("a dancer in a gold costume", "her"),
        _many("two acrobats"),
        _many("three men dressed as pirates"),
        _one("a magician in a top hat", "his"),
        _one("a woman painted silver", "her"),
        _many("four masked dancers"),
        _one("a muscular man without a shirt", "his"),
    )
    acts = (
        ("juggles oranges", "juggle oranges"),
        ("walks backwards", "walk backwards"),
        ("balances a chair on one hand", "balance chairs on their hands"),
        ("throws rings into the air", "throw rings into the air"),
        ("takes a deep bow", "take a deep bow"),
        ("swallows fire", "swallow fire"),
        ("rides a unicycle", "ride unicycles"),
        ("does a backflip", "do backflips"),
        ("walks on a thin rope", "walk on a thin rope"),
        ("escapes from heavy chains", "escape from heavy chains"),
    )
    places = (
        "in the town square",
        "outside a shopping mall",
        "at a street festival",
        "in a circus tent",
        "by the harbor",
    )
    return [
        _sentence(crowd, joint, performer.text, _pick(performer, act), place)
        for (crowd, joint), performer, act, place in product(crowds, performers, acts, places)
        if "stilts" not in performer.text or "walks" in act[0] or "juggles" in act[0]
    ]


def _scenes() -> list[str]:
    starts = (
        "a red fishing boat floats",
        "an empty wheelchair stands",
        "a bicycle without wheels lies",
        "a wooden bench stands",
        "a broken umbrella lies",
        "colorful flags hang",
        "a stone statue of a lion stands",
        "three paper lanterns hang",
        "a white sailboat floats",
        "an inflatable raft floats",
        "a row of mailboxes stands",
        "a tall ladder stands",
        "a child's shoe lies",
        "a pile of newspapers lies",
        "strings of dried peppers hang",
        "clean sheets hang",
    )
    places = {
        "floats": ("near a small island", "on a calm lake", "under a low bridge", "near the dock"),
        "stands": (
            "beside a dry fountain",
            "in front of a library",
            "in an empty garden",
            "at the end of a gravel path",
        ),
        "lies": (
            "in a narrow alley",
            "at the side of the road",
            "under a park bench",
            "on the floor of an abandoned house",
        ),
        "hang": (
            "above a courtyard",
            "from a balcony",
            "between two old houses",
            "in front of a farmhouse",
        ),
    }
    tails = ("", "in the morning light", "on a quiet Sunday", "and nobody is around", "at dusk")
    return [
        _sentence(start, place, tail) for start in starts for place, tail in product(places[start.split()[-1]], tails)
    ]


SHORTEST, LONGEST = 6, 22  # in words, of the sentences that are kept

FAMILIES: tuple[Callable[[], list[str]], ...] = (
    _street,
    _dogs,
    _farm_animals,
    _trades,
    _sports,
    _music,
    _cooking,
    _children,
    _vehicles,
    _waiting,
    _water,
    _winter,
    _shows,
    _scenes,
)


def sentences(count: int, seed: int = 0) -> list[str]:
    """Return ``count`` distinct sentences, drawn from the families in turn.

    The same ``count`` and ``seed`` always give the same list, and a shorter list is the start
    of a longer one with the same seed. Raises ``ValueError`` if ``count`` is negative or more
    than the templates can form.
    """
    if count < 0:
        raise ValueError(f"count must not be negative: {count}")
    rng = random.Random(seed)
    pools = []
    for family in FAMILIES:
        pool = [text for text in family() if SHORTEST <= len(text.split()) <= LONGEST]
        rng.shuffle(pool)
        pools.append(pool)
    seen: dict[str, None] = {}
    for turn in range(max(len(pool) for pool in pools)):
        for pool in pools:
            if len(seen) == count:
                return list(seen)
            if turn < len(pool):
                seen.setdefault(pool[turn])
    if len(seen) < count:
        raise ValueError(f"the templates form {len(seen)} sentences, fewer than {count}")
    return list(seen)
