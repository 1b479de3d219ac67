"""CMMLU's subjects: their Chinese names, as its prompts spell them, and their categories (arXiv 2306.09212)."""

STEM, HUMANITIES, SOCIAL_SCIENCE, OTHER = "STEM", "Humanities", "Social Science", "Other"
CHINA_SPECIFIC = "China specific"

SUBJECTS = {
    "agronomy": ("农学", OTHER),
    "anatomy": ("解剖学", STEM),
    "ancient_chinese": ("古汉语", SOCIAL_SCIENCE),
    "arts": ("艺术学", HUMANITIES),
    "astronomy": ("天文学", STEM),
    "business_ethics": ("商业伦理", SOCIAL_SCIENCE),
    "chinese_civil_service_exam": ("中国公务员考试", SOCIAL_SCIENCE),
    "chinese_driving_rule": ("中国驾驶规则", OTHER),
    "chinese_food_culture": ("中国饮食文化", SOCIAL_SCIENCE),
    "chinese_foreign_policy": ("中国外交政策", SOCIAL_SCIENCE),
    "chinese_history": ("中国历史", HUMANITIES),
    "chinese_literature": ("中国文学", HUMANITIES),
    "chinese_teacher_qualification": ("中国教师资格", SOCIAL_SCIENCE),
    "clinical_knowledge": ("临床知识", OTHER),
    "college_actuarial_science": ("大学精算学", STEM),
    "college_education": ("大学教育学", SOCIAL_SCIENCE),
    "college_engineering_hydrology": ("大学工程水文学", STEM),
    "college_law": ("大学法律", HUMANITIES),
    "college_mathematics": ("大学数学", STEM),
    "college_medical_statistics": ("大学医学统计", STEM),
    "college_medicine": ("大学医学", OTHER),
    "computer_science": ("计算机科学", STEM),
    "computer_security": ("计算机安全", OTHER),
    "conceptual_physics": ("概念物理学", STEM),
    "construction_project_management": ("建设工程管理", OTHER),
    "economics": ("经济学", SOCIAL_SCIENCE),
    "education": ("教育学", SOCIAL_SCIENCE),
    "electrical_engineering": ("电气工程", STEM),
    "elementary_chinese": ("小学语文", SOCIAL_SCIENCE),
    "elementary_commonsense": ("小学常识", OTHER),
    "elementary_information_and_technology": ("小学信息技术", OTHER),
    "elementary_mathematics": ("初等数学", STEM),
    "ethnology": ("民族学", SOCIAL_SCIENCE),
    "food_science": ("食品科学", OTHER),
    "genetics": ("遗传学", STEM),
    "global_facts": ("全球事实", HUMANITIES),
    "high_school_biology": ("高中生物", STEM),
    "high_school_chemistry": ("高中化学", STEM),
    "high_school_geography": ("高中地理", SOCIAL_SCIENCE),
    "high_school_mathematics": ("高中数学", STEM),
    "high_school_physics": ("高中物理学", STEM),
    "high_school_politics": ("高中政治", SOCIAL_SCIENCE),
    "human_sexuality": ("人类性行为", OTHER),
    "international_law": ("国际法学", HUMANITIES),
    "journalism": ("新闻学", SOCIAL_SCIENCE),
    "jurisprudence": ("法理学", HUMANITIES),
    "legal_and_moral_basis": ("法律与道德基础", OTHER),
    "logical": ("逻辑学", HUMANITIES),
    "machine_learning": ("机器学习", STEM),
    "management": ("管理学", SOCIAL_SCIENCE),
    "marketing": ("市场营销", SOCIAL_SCIENCE),
    "marxist_theory": ("马克思主义理论", HUMANITIES),
    "modern_chinese": ("现代汉语", SOCIAL_SCIENCE),
    "nutrition": ("营养学", OTHER),
    "philosophy": ("哲学", HUMANITIES),
    "professional_accounting": ("专业会计", SOCIAL_SCIENCE),
    "professional_law": ("专业法学", HUMANITIES),
    "professional_medicine": ("专业医学", OTHER),
    "professional_psychology": ("专业心理学", SOCIAL_SCIENCE),
    "public_relations": ("公共关系", SOCIAL_SCIENCE),
    "security_study": ("安全研究", SOCIAL_SCIENCE),
    "sociology": ("社会学", SOCIAL_SCIENCE),
    "sports_science": ("体育学", OTHER),
    "traditional_chinese_medicine": ("中医中药", OTHER),
    "virology": ("病毒学", STEM),
    "world_history": ("世界历史", HUMANITIES),
    "world_religions": ("世界宗教", HUMANITIES),
}

# These are of one of the categories above as well.
CHINA_SPECIFIC_SUBJECTS = {
    "ancient_chinese",
    "chinese_civil_service_exam",
    "chinese_driving_rule",
    "chinese_food_culture",
    "chinese_foreign_policy",
    "chinese_history",
    "chinese_literature",
    "chinese_teacher_qualification",
    "construction_project_management",
    "elementary_chinese",
    "elementary_commonsense",
    "ethnology",
    "high_school_politics",
    "modern_chinese",
    "traditional_chinese_medicine",
}

CHINESE_NAMES = {name: chinese for name, (chinese, _) in SUBJECTS.items()}


def categories_of(subject: str) -> tuple[str, ...]:
    """The category of a subject, and "China specific" where it is that too; none for subjects that are not CMMLU's."""
    if subject not in SUBJECTS:
        return ()
    _, category = SUBJECTS[subject]
    return (category, CHINA_SPECIFIC) if subject in CHINA_SPECIFIC_SUBJECTS else (category,)
