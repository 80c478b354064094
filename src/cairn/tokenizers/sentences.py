"""The same three sentences in fifteen languages: what a tokenizer charges for a language shows at once.

Everyday sentences, written for this purpose. A few dozen tokens are enough to see a factor of two or eight, and too few to
rank tokenizers by a per cent.
"""

SENTENCES = {
    "English": "The children drink water every morning. My mother reads a book at home. "
    "Tomorrow we will go to the market and buy bread.",
    "German": "Die Kinder trinken jeden Morgen Wasser. Meine Mutter liest zu Hause ein Buch. "
    "Morgen gehen wir auf den Markt und kaufen Brot.",
    "Spanish": "Los niños beben agua cada mañana. Mi madre lee un libro en casa. "
    "Mañana iremos al mercado y compraremos pan.",
    "Turkish": "Çocuklar her sabah su içer. Annem evde kitap okuyor. Yarın pazara gidip ekmek alacağız.",
    "Swahili": "Watoto hunywa maji kila asubuhi. Mama yangu anasoma kitabu nyumbani. "
    "Kesho tutaenda sokoni na kununua mkate.",
    "Russian": "Дети каждое утро пьют воду. Моя мама читает книгу дома. Завтра мы пойдём на рынок и купим хлеб.",
    "Greek": "Τα παιδιά πίνουν νερό κάθε πρωί. Η μητέρα μου διαβάζει ένα βιβλίο στο σπίτι. "
    "Αύριο θα πάμε στην αγορά και θα αγοράσουμε ψωμί.",
    "Arabic": "يشرب الأطفال الماء كل صباح. تقرأ أمي كتابا في البيت. غدا سنذهب إلى السوق ونشتري الخبز.",
    "Hindi": "बच्चे हर सुबह पानी पीते हैं। मेरी माँ घर पर किताब पढ़ती हैं। कल हम बाज़ार जाएँगे और रोटी खरीदेंगे।",
    "Bengali": "শিশুরা প্রতিদিন সকালে জল পান করে। আমার মা বাড়িতে একটি বই পড়েন। আগামীকাল আমরা বাজারে যাব এবং রুটি কিনব।",
    "Tamil": "குழந்தைகள் தினமும் காலையில் தண்ணீர் குடிக்கிறார்கள். என் அம்மா வீட்டில் புத்தகம் படிக்கிறார். "
    "நாளை நாம் சந்தைக்குச் சென்று ரொட்டி வாங்குவோம்.",
    "Thai": "เด็กๆ ดื่มน้ำทุกเช้า แม่ของฉันอ่านหนังสือที่บ้าน พรุ่งนี้เราจะไปตลาดและซื้อขนมปัง",
    "Chinese": "孩子们每天早上喝水。我妈妈在家里看书。明天我们去市场买面包。",
    "Japanese": "子供たちは毎朝水を飲みます。母は家で本を読んでいます。明日、私たちは市場へ行ってパンを買います。",
    "Korean": "아이들은 매일 아침 물을 마십니다. 어머니는 집에서 책을 읽으십니다. 내일 우리는 시장에 가서 빵을 살 것입니다.",
}
