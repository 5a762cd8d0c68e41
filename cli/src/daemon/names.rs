//! Names for containers that were given none: two words, of cloth and of networks.

use std::sync::LazyLock;

/// How often a clash of names is answered by another pair of words before a number is added.
const PAIRS_TRIED: u32 = 20;

/// Makes up a name that is not `taken`. `random` yields any numbers; each is used once.
pub(crate) fn make_up(mut random: impl FnMut() -> u64, taken: impl Fn(&str) -> bool) -> String {
    let mut pick = |words: &[&'static str]| {
        let index = usize::try_from(random() % words.len() as u64).unwrap_or_default();
        words.get(index).copied().unwrap_or("plain")
    };
    let mut pair = || format!("{}_{}", pick(&HOW), pick(&WHAT));
    for _ in 0..PAIRS_TRIED {
        let name = pair();
        if !taken(&name) {
            return name;
        }
    }
    let name = pair();
    (2u64..).map(|number| format!("{name}_{number}")).find(|name| !taken(name)).unwrap_or(name)
}

static HOW: LazyLock<Vec<&'static str>> = LazyLock::new(|| HOW_WORDS.split_whitespace().collect());
static WHAT: LazyLock<Vec<&'static str>> = LazyLock::new(|| WHAT_WORDS.split_whitespace().collect());

/// What a thing on a loom may be like.
const HOW_WORDS: &str = "\
    airy amber ample aslant balanced banded beaded bevelled bonded braided brisk broad burnished calm carded chequered clear \
    close coiled combed corded crimped crisp deft dense doubled downy draped dyed earthy eased even fabled faced felted fine \
    firm fleecy flexed folded fringed fulled gauzy gilded glossy gossamer grained hanked heathered hemmed herringbone honest \
    inlaid joined keen knitted knotted laced layered level light limber linked lisle looped loyal lucid lustrous marled \
    mended meshed milled mottled napped neat nimble open paired patient patterned piled plaited plied plumb polished quick \
    quilted ready reeled ribbed roving ruched sateen selvaged serged silken sleek smooth spliced spun steady stitched \
    striped supple tactile taut teased tensile threaded tidy tinted trim tufted twilled twined unbroken veined warped wefted \
    woollen woven";

/// Things of looms, harbours and networks.
const WHAT_WORDS: &str = "\
    arbor arcade backbone bandwidth beacon beam beater bobbin bodkin bridge bucket cable cambric carrier castle channel \
    chenille chord cipher circuit cloth comb conduit cord cotton crate damask datagram denim distaff dobby duct ethernet \
    felt ferry fibre filament flannel flax flyer frame gateway gauze gingham gusset hank harbour harness header heddle hemp \
    hub jacquard jersey joint junction lace lantern lattice lease ledger lever linen link loom lycra mast mesh mohair muslin \
    needle nettle node octet organza packet paisley patch path pebble pennant pick pirn plait port pulley quill raddle ramie \
    reed reel relay ribbon rigging router satin scutcher seam segment selvage shaft shed shuttle signal silk skein socket \
    spindle spool stitch strand subnet switch tabby tapestry tartan tassel temple tenter thimble thread tide token treadle \
    trellis trunk tunnel tweed twill velvet vessel voile warp weaver weft wharf whorl wicker wire woof yarn";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::daemon::lookup::check_name;

    #[test]
    fn every_name_that_can_be_made_up_is_a_valid_one() {
        for (how, what) in HOW.iter().flat_map(|how| WHAT.iter().map(move |what| (how, what))) {
            check_name("container", &format!("{how}_{what}")).unwrap();
        }
        assert_eq!(HOW.iter().chain(WHAT.iter()).collect::<HashSet<_>>().len(), HOW.len() + WHAT.len());
    }

    #[test]
    fn a_name_in_use_is_not_made_up_again() {
        let mut made = HashSet::new();
        let mut seed = 0u64;
        for _ in 0..30_000 {
            let name = make_up(
                || {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    seed >> 33
                },
                |name| made.contains(name),
            );
            assert!(made.insert(name));
        }
    }

    #[test]
    fn randomness_that_stands_still_is_no_endless_loop() {
        let first = make_up(|| 7, |_| false);
        assert_eq!(make_up(|| 7, |name| name == first), format!("{first}_2"));
    }
}
